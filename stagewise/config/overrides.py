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
    node: Any = source.tree
    path: KeyPath = ()
    parts = split_key(key)
    for part in parts[:-1]:
        step = _step(node, part, path, parts)
        path = (*path, step)
        if isinstance(node, dict) and step not in node:
            node[step] = {}
            source.overridden[path] = key
        node = node[step]
    step = _step(node, parts[-1], path, parts)
    node[step] = value
    source.overridden[(*path, step)] = key


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
