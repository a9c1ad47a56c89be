"""Of every label of a data set: how many items have one, which lines name no item, which classes cannot be right."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from stagewise.datasets.base import Dataset
from stagewise.datasets.labels import FrameTable, ItemLabels
from stagewise.datasets.names import few_of
from stagewise.show import counted


def label_facts(dataset: Dataset, read: Collection[str]) -> list[dict[str, Any]]:
    """Return what is known of every label, JSON-able.

    Args:
        dataset: whose labels they are; of several views of an item one is counted.
        read: labels that a probe or an objective reads, for which classes without training or test items matter.
    """
    found = []
    for name, table in dataset.labels.items():
        fact: dict[str, Any] = {
            "name": name,
            "items": int(has_label(table)[:: dataset.views].sum()),
            "of": len(dataset) // dataset.views,
            "classes": len(table.names),
            "lines_of_no_item": table.strays.lines if table.strays else 0,
            "examples": [] if table.strays is None else list(table.strays.examples),
            "what": "file" if table.strays is None else table.strays.what,
        }
        train, test = (_classes(table, dataset.split(part)) if name in read else set() for part in ("train", "test"))
        # A class that is in neither is a number that a file of phones does not use.
        fact["not_trained_on"], fact["not_tested"] = (
            [table.names[number] for number in sorted(classes)] for classes in (test - train, train - test)
        )
        found.append(fact)
    return found


def label_words(fact: Mapping[str, Any]) -> tuple[str, bool]:
    """Say what `label_facts` found of a label, and whether that is a warning."""
    some, every = fact["items"], fact["of"]
    parts = [f"{fact['name']}: {f'{some:,} of {every:,}' if some < every else f'all {every:,}'} items have a label"]
    lost, untrained, untested = fact["lines_of_no_item"], fact["not_trained_on"], fact["not_tested"]
    if lost:
        parts.append(f"{counted(lost, 'line names', 'lines name')} no {fact['what']}: {few_of(fact['examples'], lost)}")
    parts.append(counted(fact["classes"], "class", "classes"))
    if untrained:
        parts.append(
            f"no training item of {counted(len(untrained), 'class', 'classes')}, of which all test items are told "
            f"wrong: {few_of(untrained)}"
        )
    if untested:
        parts.append(f"no test item of {counted(len(untested), 'class', 'classes')}: {few_of(untested)}")
    return "; ".join(parts), bool(lost or untrained)


def has_label(table: ItemLabels | FrameTable) -> npt.NDArray[np.bool_]:
    """Return which items have a label, or frames with one."""
    return np.diff(table.offsets) > 0 if isinstance(table, FrameTable) else np.asarray(table.classes) >= 0


def _classes(table: ItemLabels | FrameTable, items: npt.NDArray[np.int64]) -> set[int]:
    chosen_N = np.zeros(len(has_label(table)), np.bool_)
    chosen_N[items] = True
    if isinstance(table, FrameTable):
        chosen_N = np.repeat(chosen_N, np.diff(table.offsets))
    return {*np.unique(table.classes[chosen_N]).tolist()} - {-1}
