"""Which items the stages of a plan are trained on: known from the labels and the seed, before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from stagewise.datasets.base import Dataset
from stagewise.datasets.promises import read_rows
from stagewise.errors import DataError
from stagewise.objectives.base import Supervised
from stagewise.planning.build import BuiltStage
from stagewise.seeds import derive_seed
from stagewise.show import counted
from stagewise.windows.classes import Classes

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
FEW = 0.1  # share of the items: a stage that is trained on less has hardly seen the data
HEARD = 1 << 16  # rows of an item that are read at a time, to see whether it is silent


def trainable(dataset: Dataset, built: Iterable[BuiltStage]) -> Ints:
    """Return what stages in sync may be trained on: labelled items if an objective needs labels, else all there are."""
    labels = [(stage.objective.labels, stage) for stage in built if isinstance(stage.objective, Supervised)]
    if not labels:
        return dataset.pool()
    items = dataset.split("train")
    for label, stage in labels:
        items = Classes(dataset, label, stage.geometry).known(items)
    return items


def splits(dataset: Dataset, built: Sequence[BuiltStage], fraction: float, seed: int) -> npt.NDArray[np.str_]:
    """Say what every item is for when stages in sync are trained: train, validation, test or none; all views alike."""
    train, validation = held_out(dataset, built, fraction, seed)
    words_N = np.full(len(dataset), "none", "<U10")
    for word, items in (("train", train), ("validation", validation), ("test", dataset.split("test"))):
        words_N[(items[:, None] + np.arange(dataset.views)).ravel()] = word
    return words_N


def held_out(dataset: Dataset, built: Sequence[BuiltStage], fraction: float, seed: int) -> tuple[Ints, Ints]:
    """Split the training items of stages in sync: those that are trained on, and those that tell when to stop.

    Args:
        dataset: with the items.
        built: the stages, lowest first.
        fraction: of the items that is held out.
        seed: of the pipeline.
    """
    items = trainable(dataset, built)
    return hold_out(items, fraction, seed, filling(dataset, built[-1], items), lambda item: silent(dataset, item))


def hold_out(
    items: Ints,
    fraction: float,
    seed: int,
    fill_N: Bools | None = None,
    is_silent: Callable[[int], bool] = lambda _: False,
) -> tuple[Ints, Ints]:
    """Split items at random; what fills no window cannot tell when to stop, and what is silent does not tell alone.

    Args:
        items: rising.
        fraction: that is held out: one item at least, if there are two.
        seed: of the pipeline.
        fill_N: whether each item fills a window; all when left out.
        is_silent: says whether an item is; asked until one is not.
    """
    order = np.random.Generator(np.random.Philox(derive_seed(seed, "validation"))).permutation(items)
    if fill_N is not None:
        order = order[np.isin(order, items[fill_N])]
    count = min(len(order) - 1, max(1, round(fraction * len(order)))) if fraction > 0 and len(order) else 0
    tell = order[:count]
    if count:
        # Its loss is that of guessing from the first epoch to the last: the training would be thrown away.
        heard = next((place for place, item in enumerate(order.tolist()) if not is_silent(item)), 0)
        tell = tell if heard < count else order[heard : heard + 1]
    return np.setdiff1d(items, tell), np.sort(tell)


def filling(dataset: Dataset, top: BuiltStage, items: Ints) -> Bools:
    """Say which items fill a window of a stage, or hold a crop: those that it is trained on."""
    if top.grid is not None:
        assert dataset.grids is not None
        return np.asarray((dataset.grids[items] >= np.array(top.grid)).all(1), np.bool_)
    lengths = dataset.lengths[items].tolist()
    fill = {length: top.geometry.window_starts(length, top.rows) > 0 for length in set(lengths)}
    return np.array([fill[length] for length in lengths], np.bool_)


def few_items(dataset: Dataset, built: Sequence[BuiltStage]) -> str:
    """Say that stages in sync are trained on less than a tenth of their items; "" if they are not."""
    items = trainable(dataset, built)
    used = int(filling(dataset, built[-1], items).sum())
    if used >= FEW * len(items):
        return ""
    shorter = "shorter than its window: lower objective.window"
    why = shorter if built[-1].grid is None else "smaller than a crop: lower data.crop"
    return f"only {used:,} of {counted(len(items), 'item')} can be trained on, and all others are {why}"


def silent(dataset: Dataset, item: int) -> bool:
    """Say whether all rows of an item are the same; of one that cannot be read, training says what is wrong."""
    length = int(dataset.lengths[item])
    first: npt.NDArray[np.float32] | None = None
    for start in range(0, length, HEARD):
        try:
            rows = read_rows(dataset, item, start, min(length, start + HEARD))
        except DataError:
            return False
        first = rows[:, :1] if first is None else first
        if not (rows == first).all():
            return False
    return True
