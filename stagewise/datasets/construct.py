"""Data sets as a pipeline file says, and whether labels can be learnt from them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import numpy.typing as npt

from stagewise.datasets import SHORT_NAMES
from stagewise.datasets.bad_items import telling
from stagewise.datasets.base import Dataset, check_promises
from stagewise.errors import DataError
from stagewise.pipeline import Probe, Spec, build, resolve


def build_dataset(spec: Spec, where: str, report: Callable[..., None] | None = None) -> Dataset:
    """Construct a data set, and tell how many of its files were looked at; `where` is where its table stands."""
    with nullcontext() if report is None else telling(report):
        dataset = build(spec, Dataset, SHORT_NAMES, where)
    if not type(dataset).__module__.startswith("stagewise."):
        check_promises(dataset, where)
    return dataset


def dataset_kind(spec: Spec, where: str) -> type[Dataset]:
    """Return the class of a data set, without constructing it."""
    return resolve(spec.target, Dataset, SHORT_NAMES, where)


LABELS_ADVICE = "Check data.splits and the labels (images lie in one folder per class), or leave the probe out."


def check_classes(dataset: Dataset, label: str, where: str, advice: str) -> None:
    """Refuse a label by which no two training items, or frames, can be told apart.

    Raises:
        DataError: none of them has it, or all have the same class.
    """
    classes = some_classes(dataset, label, dataset.split("train"))
    if not classes:
        raise DataError(f"{where}: no training item has a label '{label}'. {advice}")
    if len(classes) == 1:
        (name,) = (dataset.label_classes(label)[number] for number in classes)
        raise DataError(
            f"{where}: all training items have the same label '{label}', '{name}': there is nothing to tell apart. "
            f"{advice}"
        )


def check_labelled(probe: Probe, dataset: Dataset) -> None:
    """Refuse a probe whose labels cannot be learnt, or tested.

    Raises:
        DataError: too few training or test items have one.
    """
    where = f"probe {probe.name}"
    check_classes(dataset, probe.labels, where, LABELS_ADVICE)
    tested = some_classes(dataset, probe.labels, dataset.split("test"))
    if not tested:
        raise DataError(f"{where}: no test item has a label '{probe.labels}'. {LABELS_ADVICE}")
    if probe.pool is not None and not tested & some_classes(dataset, probe.labels, dataset.split("train")):
        raise DataError(
            f"{where}: no training item has a label '{probe.labels}' that a test item has: it could get nothing "
            f"right. {LABELS_ADVICE}"
        )


def some_classes(dataset: Dataset, label: str, items: npt.NDArray[np.int64]) -> set[int]:
    """Return classes that some items have: all if there are none or one, else two or more of them."""
    if dataset.label_kind(label) == "item":
        return set(dataset.item_labels(label)[items].tolist()) - {-1}
    found = set[int]()
    for item in items.tolist():
        labels = dataset.frame_labels(label, item)
        if labels is not None:
            found |= set(np.unique(labels.classes).tolist()) - {-1}
        if len(found) > 1:
            break
    return found


def own_label(probe: Probe) -> str:
    """Return what the label of a probe with data of its own is called beside those of the run's data."""
    return f"{probe.labels} (of the probe {probe.name})"
