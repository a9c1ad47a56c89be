"""What is wrong with a pipeline file: each problem with its place, all told at once."""

from __future__ import annotations

import math
import re
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from stagewise.errors import ConfigError
from stagewise.pipeline.schema import PATTERNS, PipelineFile, Spec
from stagewise.pipeline.source import KeyPath, Source
from stagewise.pipeline.wording import LARGEST, as_number, did_you_mean, listed, shown

# Everything that is wrong with a pipeline, each problem with its place and in a user's words, at once.

MOST = 100  # lines of a message: more help nobody
_NEEDS = {
    "bool_type": "needs true or false",
    "int_type": "needs a whole number",
    "float_type": "needs a number",
    "finite_number": "needs a finite number",
    "string_type": "needs text in quotes",
    "tuple_type": "needs a list of tables",
}
_LIMITS = {"greater_than_equal": "ge", "greater_than": "gt", "less_than_equal": "le", "less_than": "lt"}
_LIMIT_WORDS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


class Report:
    """Collects problems, one a place, and raises them together."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._lines: dict[str, tuple[int, str]] = {}  # place -> (line of the file, problem)

    def add(self, path: KeyPath, problem: str) -> None:
        """Note what is wrong with a value of the pipeline, unless something is already known to be."""
        place = self._source.origin(path)
        of_file = self._source.override(place) is None
        line = self._source.line(place) if of_file else 1 << 31
        self._lines.setdefault(self._source.where(path), (line, problem))

    def add_override(self, key: str, problem: str) -> None:
        """Note what is wrong with a `--set` itself."""
        self._lines.setdefault(f"--set {key}", (1 << 31, problem))

    def add_unset(self, key: str, problem: str) -> None:
        """Note what is wrong with an `--unset` itself."""
        self._lines.setdefault(f"--unset {key}", (1 << 31, problem))

    def raise_all(self) -> None:
        """Raise every problem, in the order of the file, overrides last.

        Raises:
            ConfigError: there is a problem.
        """
        if not self._lines:
            return
        ordered = sorted(self._lines.items(), key=lambda entry: entry[1][0])
        message = [f"{place}: {problem}" for place, (_, problem) in ordered[:MOST]]
        if len(ordered) > MOST:
            message.append(f"… and {len(ordered) - MOST} more")
        count = "1 problem" if len(ordered) == 1 else f"{len(ordered)} problems"
        raise ConfigError("\n".join([*message, f"{count}; nothing was run."]))


def model_problems(model: type[BaseModel], content: object, at: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Validate the content of a table of the file and say what is wrong with it."""
    try:
        model.model_validate(content)
    except ValidationError as error:
        found = {(*at, *details["loc"]): details for details in error.errors(include_url=False)}
        words = {path: _in_words(path, details) for path, details in found.items()}
        for path, text in words.items():
            if found[path]["type"] == "missing":
                # A default of probes need not be complete, as long as every probe is.
                if path[:-1] == ("defaults", "probe"):
                    continue
                # A slip of the pen is one problem, not two.
                here = (said for other, said in words.items() if other[:-1] == path[:-1])
                if any(f"did you mean {shown(path[-1])}" in said for said in here):
                    continue
            yield path, text


def _in_words(path: KeyPath, details: ErrorDetails) -> str:
    """Say what pydantic found in the words of someone who edits the file."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    if kind == "missing":
        return f"is missing: {_description(path)}"
    if kind == "extra_forbidden":
        known = _table_at(path[:-1]).model_fields
        meant = did_you_mean(path[-1], known) or _elsewhere(str(path[-1]), value)
        return "unknown key" + (meant or f"; there are: {listed(known)}")
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        return f"needs {' or '.join(map(shown, choices))}, not {shown(value)}{did_you_mean(value, choices)}"
    if kind == "string_pattern_mismatch":
        return f"needs {PATTERNS[context['pattern']]}; not {shown(value)}"
    if kind in _LIMITS:
        limit = _LIMITS[kind]
        return f"needs to be {_LIMIT_WORDS[limit]} {context[limit]:g}, not {shown(value)}"
    if kind == "model_type":
        plugged = issubclass(_table_at(path), Spec)
        return f"needs {'{ target = …, arguments }' if plugged else 'a table'}, not {shown(value)}"
    if kind == "string_too_short":
        return f"is empty: {_description(path)}"
    number = as_number(value) if isinstance(value, str) else None
    if kind != "float_type" and not (kind == "int_type" and number and number.isdecimal()):
        number = None
    meant = f"; a number has no quotes, and a digit before its point: {path[-1]} = {number}" if number else ""
    return f"{_NEEDS[kind]}, not {shown(value)}{meant}" if kind in _NEEDS else details["msg"]


def _elsewhere(name: str, value: object) -> str:
    """Name the defaults that hold such a key: `epochs` or `train.epochs` is what people type first."""
    table = PipelineFile.model_fields["defaults"].annotation
    assert isinstance(table, type)
    assert issubclass(table, BaseModel)
    inner = list(value) if isinstance(value, dict) and value else [None]
    if name in table.model_fields:
        return f" (did you mean {shown('.'.join(filter(None, ['defaults', name, inner[0]])))}?)"
    if name in ("lr", "learning_rate"):
        return ' (did you mean "train.optimizer.lr"?)'
    for field in ("train", "objective", "store"):
        model = next(models_in(table.model_fields[field].annotation))
        if name in model.model_fields:
            return f" (did you mean {shown(f'defaults.{field}.{name}')}?)"
    return ""


def _description(path: KeyPath) -> str:
    """Say what a key of the file is for."""
    return str(_table_at(path[:-1]).model_fields[str(path[-1])].description)


def _table_at(path: KeyPath) -> type[BaseModel]:
    """Return the model of the table at a path of the file."""
    model: type[BaseModel] = PipelineFile
    for step in path:
        if isinstance(step, str):
            model = next(models_in(model.model_fields[step].annotation))
    return model


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a field's type holds: those of its tables."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models_in(part)


# What the models cannot see one key at a time: plain values everywhere, names that refer to others.

DEEPEST = 32  # tables and lists within each other

Found = Iterator[tuple[KeyPath, str]]


def plain_problems(value: object, path: KeyPath = ()) -> Found:
    """Find what JSON cannot hold: dates, numbers not finite or beyond 64 bits, zero bytes in text."""
    if isinstance(value, dict | list) and len(path) >= DEEPEST:
        yield path[:4], f"is nested more than {DEEPEST} deep"
    elif isinstance(value, dict):
        for key, inner in value.items():
            if "\0" in key:
                yield path, "a key contains a zero character"
            else:
                yield from plain_problems(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from plain_problems(inner, (*path, index))
    elif isinstance(value, str):
        if "\0" in value:
            yield path, "contains a zero character"
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield path, f"needs a finite number, not {value}"
    elif isinstance(value, int):
        if not -LARGEST - 1 <= value <= LARGEST:
            yield path, "needs a number of at most 64 bits"
    elif value is not None:  # null stands for an absent key in JSON
        yield path, f"needs text, a number, true, false, a list or a table, not {shown(value)}"


def name_problems(merged: dict[str, Any]) -> Found:
    """Find names given twice, missing stages and modules, and probes of stages that are not there."""
    stages, probes = _tables(merged.get("stage")), _tables(merged.get("probe"))
    if merged.get("stage") == []:  # pydantic's own check does not count stages that have other problems
        yield ("stage",), "is empty: a pipeline has at least one stage"
    for key, tables in (("stage", stages), ("probe", probes)):
        first: dict[str, int] = {}
        for index, table in tables:
            name = table.get("name")
            if isinstance(name, str) and first.setdefault(name, index) != index:
                yield (key, index, "name"), f"{shown(name)} names {key} {first[name] + 1} already: choose another"
    for index, stage in stages:
        if stage.get("encoder") is None and stage.get("context") is None:
            yield ("stage", index), "needs an encoder, a context or both"
    known = list(dict.fromkeys(stage["name"] for _, stage in stages if isinstance(stage.get("name"), str)))
    for index, probe in probes:
        for problem in _chosen_problems(probe.get("stages"), known):
            yield ("probe", index, "stages"), problem


def _chosen_problems(chosen: object, known: list[str]) -> Iterator[str]:
    names = [name for name in chosen if isinstance(name, str)] if isinstance(chosen, list) else []
    unknown = [f"{shown(name)}{did_you_mean(name, known)}" for name in names if name not in known]
    if unknown:
        yield f"no such stage: {listed(unknown)}; there are: {listed(map(shown, known))}"
    elif len(set(names)) < len(names):
        yield "names a stage twice"


def _tables(items: object) -> list[tuple[int, dict[str, Any]]]:
    if not isinstance(items, list):
        return []
    return [(index, item) for index, item in enumerate(items) if isinstance(item, dict)]
