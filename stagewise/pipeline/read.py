"""A pipeline file read: TOML, merged with what --set and --unset say, validated."""

from __future__ import annotations

import copy
import datetime
import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from stagewise.errors import ConfigError
from stagewise.pipeline.problems import Report, model_problems, name_problems, plain_problems
from stagewise.pipeline.schema import Defaults, Pipeline, with_defaults
from stagewise.pipeline.source import KEY, KeyPath, Source, find_item, locate, split_key
from stagewise.pipeline.targets import with_full_names
from stagewise.pipeline.wording import did_you_mean, listed, shown
from stagewise.text import counted

# `--set KEY=VALUE`: changes to a parsed pipeline file, before defaults are merged and validated.

Overrides = Sequence[str] | Mapping[str, object]  # "KEY=VALUE" as typed, or {KEY: value} from Python

_OVERRIDE = re.compile(rf"[ \t]*({KEY.pattern})[ \t]*=[ \t]*(.*)", re.DOTALL)


def apply_overrides(sets: Overrides, source: Source, report: Report) -> None:
    """Write overrides into the source's tree, the last one winning, and report those that fit nowhere."""
    if isinstance(sets, Mapping):
        pairs = [(key, _copied(value)) for key, value in sets.items()]
    else:
        pairs = []
        for text in sets:
            match = _OVERRIDE.fullmatch(text)
            if match is None:
                report.add_override(text, "write KEY=VALUE, for instance --set defaults.train.epochs=2")
            else:
                pairs.append((match[1], parse_value(match[2])))
    for key, value in pairs:
        try:
            _write(source, key, value)
        except ValueError as error:
            report.add_override(key, str(error))


def take_away(keys: Sequence[str], source: Source, report: Report) -> None:
    """Take keys, tables or items of a list out of the source's tree, and report those that are not there.

    Numbers are those of the file as it is: `probe.1` and `probe.2` are its first two probes.
    """
    found: dict[KeyPath, Any] = {}
    for key in keys:
        try:
            parts = split_key(key)
            holder, path = _walk(source, parts[:-1], parts)
            step = _step(holder, parts[-1], path, parts)
            if isinstance(holder, dict) and step not in holder:
                raise ValueError(f"the file does not say it{did_you_mean(step, list(holder))}")
            found[(*path, step)] = holder
        except ValueError as error:
            report.add_unset(key, str(error))
    for path in sorted(found, reverse=True):  # what is behind or within another first
        del found[path][path[-1]]
        source.forget(path)


def parse_value(text: str) -> Any:
    """Read a TOML value; what is not one is taken as text, so that paths and sizes need no quotes."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except ValueError:
        return text
    value = parsed["value"]
    # No key takes a date, but a folder may be called 2024-01-31; a second key means a line break.
    is_text = len(parsed) > 1 or isinstance(value, datetime.date | datetime.time)
    return text if is_text else value


def _copied(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else copy.deepcopy(value)


def _write(source: Source, key: str, value: object) -> None:
    """Set one key, creating the tables on the way.

    Raises:
        ValueError: the key is not one, names an item that is not there, or leads through a plain value.
    """
    parts = split_key(key)
    node, path = _walk(source, parts[:-1], parts, key)
    step = _step(node, parts[-1], path, parts)
    node[step] = value
    source.overridden[(*path, step)] = key


def _walk(source: Source, way: Sequence[str], parts: tuple[str, ...], made_by: str = "") -> tuple[Any, KeyPath]:
    """Return the table or list that a way leads to, and its path; tables that are not there are made for a key."""
    node: Any = source.tree
    path: KeyPath = ()
    for part in way:
        step = _step(node, part, path, parts)
        path = (*path, step)
        if isinstance(node, dict) and step not in node:
            if not made_by:
                raise ValueError(f"the file does not say it{did_you_mean(part, list(node))}")
            node[step] = {}
            source.overridden[path] = made_by
        node = node[step]
    return node, path


def _step(node: object, part: str, path: KeyPath, parts: tuple[str, ...]) -> str | int:
    """Return the key or the index that one part of a dotted key means in a table or a list."""
    if isinstance(node, dict):
        if not path and len(parts) > 1 and part in ("stage", "probe") and part not in node:
            raise ValueError(f"the file has no {part}")
        return part
    holder = ".".join(parts[: len(path)])
    if not isinstance(node, list):
        raise ValueError(f"{holder} is {shown(node)}, which has no keys")
    index = find_item(node, part)
    if index is None:
        names = [item["name"] for item in node if isinstance(item, dict) and isinstance(item.get("name"), str)]
        known = f"there are: {listed(names)}" if names else f"it has {counted(len(node), 'item')}"
        raise ValueError(f"no {holder} is called {shown(part)}{did_you_mean(part, names)}; {known}")
    return index


# Read a pipeline file, lay overrides over it, merge its defaults, validate it; and to JSON and back.

LARGEST_FILE = 1 << 20  # bytes; the largest sensible pipeline file has a few thousand
_PART = r"""(?:"[^"\n]*"|'[^'\n]*'|(?<![\w-])[\w-]+)"""
_LONG_KEY = re.compile(rf"(?:{_PART}[ \t]*\.[ \t]*){{64}}")


def load_pipeline(path: Path, sets: Overrides = (), unset: Sequence[str] = ()) -> Pipeline:
    """Read and validate a pipeline file; nothing but the file is touched and torch is not imported.

    Args:
        path: the TOML file.
        sets: overrides, `["KEY=VALUE", …]` or `{KEY: value}`.
        unset: keys, tables or items of a list that are taken away before.

    Raises:
        ConfigError: the file cannot be read, or something in it or in an override is wrong; the message has a
            line for each problem.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file{_neighbour(path)}") from None
    except IsADirectoryError:
        beside = path.parent / f"{path.name}.toml"
        if beside.is_file():
            raise ConfigError(f"{path} is a folder, no pipeline file: type {beside}.") from None
        raise ConfigError(
            f"{path} is a folder, no pipeline file: type `stagewise init {path}` to have one made for what is in it."
        ) from None
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{shown(str(path))} cannot be read as a pipeline file: {words}") from None
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"{path}: larger than 1 MiB, which is no pipeline file; nothing was run.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text: save it as UTF-8; nothing was run.") from None
    return load_text(text, str(path), sets, unset)


def load_text(text: str, name: str, sets: Overrides = (), unset: Sequence[str] = ()) -> Pipeline:
    """Validate the text of a pipeline file; `name` is what messages call the file.

    Raises:
        ConfigError: as `load_pipeline`.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        tree = _parse(text, name)
        return _validated(Source(name, tree, locate(text)), sets, unset)
    except RecursionError:
        raise ConfigError(f"{name}: lists or tables are nested too deep; nothing was run.") from None


def from_json(content: dict[str, Any], name: str = "pipeline.lock.json") -> Pipeline:
    """Return the pipeline that `model_dump(mode="json")` gave; `name` is what messages call it.

    Raises:
        ConfigError: the content is not that of a pipeline.
    """
    return _validated(Source(name, content), ())


def _parse(text: str, name: str) -> dict[str, Any]:
    """Parse TOML, with the place of a mistake in front of its message."""
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfigError(f"{name}:{line}: contains a zero byte: save it as UTF-8 text; nothing was run.")
    if long_key := _LONG_KEY.search(text):  # tomllib takes time quadratic in the parts of a key
        line = text.count("\n", 0, long_key.start()) + 1
        raise ConfigError(f"{name}:{line}: a key of more than 64 parts; nothing was run.")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = re.search(r" \(at line (\d+), column (\d+)\)$", message)
        line, column = (int(place[1]), f" at column {place[2]}") if place else (text.count("\n") + 1, "")
        words = message.split(" (at ")[0].rstrip(".")
        hint = " (text needs quotes, numbers, true and false do not)" if words == "Invalid value" else ""
        if words.startswith("Cannot declare ('"):
            hint = " (tables of which there are several have two brackets: [[stage]], [[probe]])"
        raise ConfigError(f"{name}:{line}: not TOML: {words}{column}{hint}; nothing was run.") from None
    except ValueError:  # the only other one: an int of more digits than Python reads
        raise ConfigError(f"{name}: a number has thousands of digits; nothing was run.") from None


def _validated(source: Source, sets: Overrides, unset: Sequence[str] = ()) -> Pipeline:
    report = Report(source)
    take_away(unset, source, report)
    apply_overrides(sets, source, report)
    merged = with_full_names(with_defaults(source.tree), source, report)
    defaults = source.tree.get("defaults", {})
    found = chain(
        plain_problems(source.tree),
        model_problems(Defaults, defaults, ("defaults",)),
        model_problems(Pipeline, merged),
        name_problems(merged),
    )
    for path, problem in found:
        report.add(path, problem)
    report.raise_all()
    pipeline = Pipeline.model_validate(merged)
    pipeline._source = source
    return pipeline


def _neighbour(path: Path) -> str:
    """Suggest the file that was probably meant."""
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix == ".toml"]
    except OSError:
        return "; check the path"
    close = difflib.get_close_matches(path.name, names, n=1)
    return f' (did you mean "{path.with_name(close[0])}"?)' if close else "; check the path"
