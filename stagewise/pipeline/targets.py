"""Classes that a pipeline file names: found among what is allowed, their arguments checked, and built."""

from __future__ import annotations

import errno
import inspect
import os
import pkgutil
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from stagewise.errors import ConfigError, StagewiseError
from stagewise.libraries import LibraryError, broken, failed_import
from stagewise.pipeline.problems import Report
from stagewise.pipeline.schema import Spec
from stagewise.pipeline.source import KeyPath, Source
from stagewise.pipeline.wording import as_number, did_you_mean, listed, shown
from stagewise.registry import DATASETS, MODULES, OBJECTIVES, ShortNames, without_current_folder

# Short names that installed packages give: each becomes the full name of its class when a pipeline is loaded.
#
# So that fingerprints and pipeline.lock.json say which class it was, whatever another version of the package means by
# it.

PLUGGED = {
    ("data",): DATASETS,
    ("stage", "encoder"): MODULES,
    ("stage", "context"): MODULES,
    ("stage", "objective"): OBJECTIVES,
    ("probe", "data"): DATASETS,
}


def with_full_names(node: Any, source: Source, report: Report, path: KeyPath = ()) -> Any:
    """Return a merged pipeline with full names in place of the short ones of installed packages.

    Args:
        node: the pipeline, or what lies in it at `path`; what has not the right shape is left as it is.
        source: told what was meant, for messages.
        report: told of names that two packages give, and of packages that give a built-in one.
        path: of the node.
    """
    names = PLUGGED.get(tuple(step for step in path if isinstance(step, str)))
    if isinstance(node, dict) and names is not None:
        target = node.get("target")
        if not isinstance(target, str) or ":" in target or target in names:
            return node
        try:
            found = names.installed().get(target, [])
        except ConfigError as error:
            report.add((*path, "target"), str(error))
            return node
        if len(found) > 1:
            packages = " and ".join(package for _, package in found)
            report.add((*path, "target"), f'{shown(target)} is given by {packages}: write "package.module:Class"')
        if len(found) != 1:
            return node
        source.meant[path] = f"{shown(target)} of {found[0].package}"
        return {**node, "target": found[0].target}
    if isinstance(node, dict) and len(path) < 3:
        return {key: with_full_names(value, source, report, (*path, key)) for key, value in node.items()}
    if isinstance(node, list) and len(path) == 1:
        return [with_full_names(value, source, report, (*path, index)) for index, value in enumerate(node)]
    return node


# Turn `{ target = …, arguments }` into an object: find the class, bind the arguments, construct.

T = TypeVar("T")
_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_UNUSABLE_PATHS = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL)  # it is what is written that is wrong
# What constructors raise when they do not like their arguments; a disk or network failure is not among them.
_REFUSALS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


def resolve(target: str, kind: type[T], short_names: Mapping[str, str], where: str) -> type[T]:
    """Return the class that a target names; it is neither called nor made an instance of.

    Importing a module runs its top level: a pipeline file can only name modules of the environment
    (stagewise, torch, what is installed or on PYTHONPATH), never a file that just lies in the current folder.

    Args:
        target: a short name, or "package.module:Class".
        kind: what the class must be a subclass of.
        short_names: short name -> "package.module:Class".
        where: what messages begin with, from `Pipeline.where`.

    Raises:
        ConfigError: there is no such name, its module cannot be imported, or it is not such a class.
    """
    if ":" not in target and target not in short_names:
        known = [*short_names, *(short_names.installed() if isinstance(short_names, ShortNames) else ())]
        there = f"there are: {listed(sorted(known))}; or name a" if known else "name a"
        package = kind.__module__.rpartition(".")[0]  # where torch gathers its optimizers
        beside = isinstance(vars(sys.modules[package]).get(target), type) if package in sys.modules else False
        meant = did_you_mean(target, known) or (f' (did you mean "{package}:{target}"?)' if beside else "")
        raise ConfigError(f'{where}: unknown target {shown(target)}{meant}; {there} class: "package.module:Class"')
    full = short_names.get(target, target)
    module, _, name = full.partition(":")
    if not all(part.isidentifier() for part in [*module.split("."), *name.split(".")]):
        raise ConfigError(f'{where}: target {shown(target)} is not of the form "package.module:Class"')
    _import(module, target, where)
    try:
        found = pkgutil.resolve_name(full)
    except AttributeError:
        names = [key for key, value in vars(sys.modules[module]).items() if _is_a(value, kind)]
        hint = did_you_mean(name, names)
        raise ConfigError(f"{where}: target {shown(target)}: {module} has no {shown(name)}{hint}") from None
    if not _is_a(found, kind):
        what = "a class of another kind" if isinstance(found, type) else "not a class"
        raise ConfigError(
            f"{where}: target {shown(target)} is {what}; it needs to be a subclass of "
            f"{kind.__module__}.{kind.__qualname__}"
        )
    return typing.cast(type[T], found)


def build(spec: Spec, kind: type[T], short_names: Mapping[str, str], where: str, **extra: object) -> T:
    """Construct what a spec describes; its arguments are checked against the signature before the call.

    Args:
        spec: the target and its arguments.
        kind: what the class must be a subclass of.
        short_names: short name -> "package.module:Class".
        where: what messages begin with, from `Pipeline.where`.
        **extra: further arguments, which stagewise gives and the file may not.

    Raises:
        ConfigError: the target or its arguments are not usable, or the constructor refuses them.
    """
    made = resolve(spec.target, kind, short_names, where)
    problems = list(_argument_problems(made, spec, extra))
    if problems:
        raise ConfigError("\n".join(f"{where}: {problem}" for problem in [*problems, _accepted(made, extra)]))
    for name, path in files_of(made, spec).items():
        if not os.path.isfile(path):  # noqa: PTH113 (it takes names that are too long, too)
            here = "" if path.is_absolute() else f"; paths start where you type, in {Path.cwd()}"
            raise ConfigError(f"{where}.{name}: there is no file {path}{here}: correct it.")
    with refusals(spec, where):
        return made(**spec.arguments, **extra)


def files_of(made: type, spec: Spec) -> dict[str, Path]:
    """Return the files that a class is made with, by argument: those that its `file_arguments` names.

    Raises:
        ConfigError: that is no list of its arguments, or one of them is given no path.
    """
    named = getattr(made, "file_arguments", ())
    names = [name for parameter in _parameters(made) if (name := parameter.name)] if named else []
    if isinstance(named, str) or not all(name in names for name in named):
        raise ConfigError(
            f"{spec.target}: its file_arguments is {named!r}: name the arguments of its constructor that are paths of "
            'files, as in file_arguments = ("weights",).'
        )
    given = {name: value for name in named if (value := spec.arguments.get(name)) is not None}
    for name, value in given.items():
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{spec.target}: {name} is {shown(value)}: give it the path of a file.")
    return {name: Path(value) for name, value in given.items()}


def without_files(made: type, spec: Spec) -> Spec:
    """Return what makes the same without the files whose argument may be None, for weights that are put in later."""
    optional = {parameter.name for parameter in _parameters(made) if parameter.default is None}
    dropped = files_of(made, spec).keys() & optional
    return type(spec)(target=spec.target, **{k: v for k, v in spec.arguments.items() if k not in dropped})


@contextmanager
def refusals(spec: Spec, where: str) -> Iterator[None]:
    """Say where in the file the arguments stand that a class does not like.

    Raises:
        ConfigError: the body, which hands it the spec's arguments, fails on them.
    """
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except StagewiseError:
        raise
    except (*_REFUSALS, OSError) as error:
        if isinstance(error, OSError) and error.errno not in _UNUSABLE_PATHS:
            raise
        words = str(error) or type(error).__name__
        for name, value in spec.arguments.items():
            if isinstance(value, str) and (number := as_number(value)):
                words += f"; {name} is text: a number has no quotes, {name} = {number}"
        raise ConfigError(f"{where}: {shown(spec.target)} refuses its arguments: {words}") from error


def _import(module: str, target: str, where: str) -> None:
    try:
        with without_current_folder():
            import_module(module)
    except (
        Exception,
        SystemExit,
    ) as error:  # whatever a module's top level does, it is the file that named it
        missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        library = None if missing else failed_import(error)
        if library and module.startswith("stagewise."):
            raise LibraryError(broken(library, error)) from error
        if missing:
            problem = "there is no such module; install it, or put its folder on PYTHONPATH"
        else:
            problem = f"importing {module} fails: {type(error).__name__}: {error}"
        raise ConfigError(f"{where}: target {shown(target)}: {problem}") from error


def _is_a(value: object, kind: type) -> bool:
    return isinstance(value, type) and issubclass(value, kind)


def _argument_problems(made: type, spec: Spec, extra: Mapping[str, object]) -> Iterator[str]:
    """Say which arguments are unknown, given by stagewise itself, or missing."""
    parameters = _parameters(made)
    free = [name for name in _names(parameters) if name not in extra]
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    for name in spec.arguments:
        if name in extra:
            yield f"{shown(spec.target)}: stagewise gives {shown(name)} itself; remove it"
        elif name not in free and not takes_any:
            yield f"{shown(spec.target)} takes no argument {shown(name)}{did_you_mean(name, free)}"
    hints = _hints(made)
    for parameter in parameters:
        value = spec.arguments.get(parameter.name)
        if value is not None and (needs := _wrong_kind(hints.get(parameter.name), parameter.default, value)):
            number = as_number(value) if isinstance(value, str) else None
            advice = (
                f"; a number has no quotes, and a digit before its point: {parameter.name} = {number}" if number else ""
            )
            yield f"{shown(spec.target)}: {parameter.name} needs {needs}, not {shown(value)}{advice}"
    for parameter in parameters:
        needed = parameter.default is inspect.Parameter.empty and parameter.kind in _BY_NAME
        if needed and parameter.name not in spec.arguments and parameter.name not in extra:
            yield f"{shown(spec.target)} needs {shown(parameter.name)}"


def _hints(made: type) -> dict[str, set[object]]:
    """Return what a constructor says that its arguments may be."""
    try:
        hints = typing.get_type_hints(made.__init__)  # type: ignore[misc]
    except Exception:  # whatever a class's annotations do when they are looked at
        return {}
    unions = (typing.Union, types.UnionType)
    return {
        name: set(typing.get_args(hint)) if typing.get_origin(hint) in unions else {hint}
        for name, hint in hints.items()
    }


def _wrong_kind(hint: set[object] | None, default: object, value: object) -> str | None:
    """Say what an argument needs that a value is not; true is no number, though Python counts with it.

    Args:
        hint: the types that the argument may have, None if it does not say.
        default: of the argument.
        value: as the file has it.
    """
    if hint is None:
        numeric, simple = type(default) in (int, float), False
    else:
        plain = {int, float, bool, str, type(None)}
        simple = all(kind in plain or getattr(kind, "__name__", "") == "Tensor" for kind in hint)
        numeric = simple and bool(hint & {int, float}) and bool not in hint
        if hint <= {bool, type(None)} and type(value) is not bool:
            return "true or false"
    if numeric and type(value) is bool:
        return "a number"
    listed_numbers = isinstance(default, list | tuple) and all(type(each) in (int, float) for each in default)
    if listed_numbers and default and isinstance(value, list) and any(type(each) is bool for each in value):
        return "numbers"
    if simple and numeric and hint is not None and str not in hint and not isinstance(value, int | float):
        return "a number"
    return None


def _accepted(made: type, extra: Mapping[str, object]) -> str:
    """List the arguments that a class takes, with their defaults."""
    parameters = [each for each in _parameters(made) if each.kind in _BY_NAME and each.name not in extra]
    with_defaults = [
        each.name if each.default is inspect.Parameter.empty else f"{each.name}={each.default!r}" for each in parameters
    ]
    return f"{made.__qualname__} takes: {listed(with_defaults)}"


def _parameters(made: type) -> list[inspect.Parameter]:
    """Return a constructor's parameters; those of its first overload where it hides them (torch.nn.GRU)."""
    try:
        signature = inspect.signature(made)
    except ValueError:  # a class written in C that does not say
        return [inspect.Parameter("any", inspect.Parameter.VAR_KEYWORD)]
    overloads = typing.get_overloads(made.__init__)  # type: ignore[misc]
    if overloads and not _names(signature.parameters.values()):
        return list(inspect.signature(overloads[0]).parameters.values())[1:]
    return list(signature.parameters.values())


def _names(parameters: typing.Iterable[inspect.Parameter]) -> list[str]:
    return [parameter.name for parameter in parameters if parameter.kind in _BY_NAME]
