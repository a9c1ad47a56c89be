"""Which items the stages of a plan are trained on: known from the labels and the seed, before anything runs."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from stagewise.datasets.base import Dataset
from stagewise.objectives.base import Supervised
from stagewise.planning.build import BuiltStage
from stagewise.seeds import derive_seed
from stagewise.windows.classes import Classes

Ints = npt.NDArray[np.int64]


def trainable(dataset: Dataset, built: Iterable[BuiltStage]) -> Ints:
    """Return what stages in sync may be trained on: labelled items if an objective needs labels, else all there are."""
    labels = [(stage.objective.labels, stage) for stage in built if isinstance(stage.objective, Supervised)]
    if not labels:
        return dataset.pool()
    items = dataset.split("train")
    for label, stage in labels:
        items = Classes(dataset, label, stage.geometry).known(items)
    return items


def splits(dataset: Dataset, built: Iterable[BuiltStage], fraction: float, seed: int) -> npt.NDArray[np.str_]:
    """Say what every item is for when stages in sync are trained: train, validation, test or none; all views alike."""
    train, validation = held_out(trainable(dataset, built), fraction, seed)
    words_N = np.full(len(dataset), "none", "<U10")
    for word, items in (("train", train), ("validation", validation), ("test", dataset.split("test"))):
        words_N[(items[:, None] + np.arange(dataset.views)).ravel()] = word
    return words_N


def held_out(items: Ints, fraction: float, seed: int) -> tuple[Ints, Ints]:
    """Split the training items: those that are trained on, and those that tell when to stop."""
    count = min(len(items) - 1, max(1, round(fraction * len(items)))) if fraction > 0 and len(items) else 0
    order = np.random.Generator(np.random.Philox(derive_seed(seed, "validation"))).permutation(items)
    return np.sort(order[count:]), np.sort(order[:count])
