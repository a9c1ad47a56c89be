"""What the models cannot see one key at a time: plain values everywhere, names that refer to others."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from stagewise.config.keys import KeyPath
from stagewise.config.units import LARGEST
from stagewise.config.wording import did_you_mean, listed, shown

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
