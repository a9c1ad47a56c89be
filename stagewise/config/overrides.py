"""`--set KEY=VALUE`: changes to a parsed pipeline file, before defaults are merged and validated."""

from __future__ import annotations

import copy
import datetime
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from stagewise.config.keys import KEY, KeyPath, find_item, split_key
from stagewise.config.problems import Report
from stagewise.config.source import Source
from stagewise.config.wording import did_you_mean, listed, shown
from stagewise.show import counted

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
    """Take keys, tables or items of a list out of the source's tree, and report those that are not there."""
    for key in keys:
        try:
            parts = split_key(key)
            holder, path = _walk(source, parts[:-1], parts)
            step = _step(holder, parts[-1], path, parts)
            if isinstance(holder, dict) and step not in holder:
                raise ValueError(f"the file does not say it{did_you_mean(step, list(holder))}")
            del holder[step]
        except ValueError as error:
            report.add_unset(key, str(error))
        else:
            source.forget((*path, step))


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
