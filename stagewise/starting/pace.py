"""How many epochs, and windows of an item in each, train a pipeline in a sensible time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stagewise.datasets.base import Dataset
from stagewise.planning.build import BuiltStage
from stagewise.planning.policy import Policy, recomputing
from stagewise.starting.machine import Machine
from stagewise.windows.draw import Windows

BUDGET = 2 * 3600.0  # seconds of training, all stages together
MOST_EPOCHS, MOST_STEPS = 1000, 20_000  # of a stage
FEWEST_EPOCHS = 10  # that should fit in, before an epoch takes fewer windows of an item


@dataclass(frozen=True)
class Pace:
    """How long a stage trains, and about how long that takes.

    Attributes:
        epochs: at most.
        patience: epochs without a better validation loss that end training.
        windows_per_item: of an epoch.
        items: that are trained on.
        steps: of an epoch.
        seconds: that training all stages for all epochs, and encoding, are reckoned to take at most.
    """

    epochs: int
    patience: int
    windows_per_item: int
    items: int
    steps: int
    seconds: float


def pace(
    dataset: Dataset,
    train: npt.NDArray[np.int64],
    built: Sequence[BuiltStage],
    flops: Sequence[float],
    policies: Sequence[Policy],
    batch_size: int,
    machine: Machine,
    reading: float = 0.0,
) -> Pace:
    """Choose the epochs so that training ends in about two hours, or after 20,000 steps of every stage.

    Args:
        dataset: all of whose items are encoded.
        train: those that are trained on.
        built: the stages.
        flops: `forward_flops` of each.
        policies: of their stores.
        batch_size: of their training.
        machine: that trains them.
        reading: seconds that it takes to read a window of the data.
    """
    lowest = [_nearest_store(policies, index) for index in range(len(built))]
    again = [recomputing(built, flops, index, low) for index, low in enumerate(lowest)]
    own = [3 * (forward + _objective(stage)) for forward, stage in zip(flops, built, strict=True)]
    window = (sum(own) + sum(again)) / machine.rate + reading * lowest.count(0)
    per_item, items, top = 1, max(1, len(train)), built[-1]
    if top.grid is None:
        cover = Windows(train, dataset.lengths, top.geometry, top.rows, "cover").counts
        items = max(1, int((cover > 0).sum()))
        # Not all: the lowest stage's windows are 32 times shorter than the fifth's, and it would take as many more.
        affordable = min(BUDGET / window, MOST_STEPS * batch_size) / FEWEST_EPOCHS
        per_item = max(1, int(min(cover.sum(), affordable) / items))
    epoch = items * per_item
    steps = max(1, epoch // batch_size)
    epochs = max(1, min(MOST_EPOCHS, MOST_STEPS // steps, int(BUDGET / (epoch * window))))
    mean = int(dataset.lengths.mean())
    whole = [forward * stage.geometry.rows(mean) / stage.rows for forward, stage in zip(flops, built, strict=True)]
    written = [sum(whole[low : index + 1]) for index, low in enumerate(lowest) if policies[index].write]
    seconds = epochs * epoch * window + len(dataset.lengths) * sum(written) / machine.rate
    return Pace(epochs, max(1, min(10, epochs // 3)), per_item, items, steps, seconds)


def _nearest_store(policies: Sequence[Policy], index: int) -> int:
    """Return the first of the stages that are computed to get a stage's input; its own place where it is stored."""
    while index and not policies[index - 1].write:
        index -= 1
    return index


def _objective(stage: BuiltStage) -> float:
    """Count the multiply-adds of scoring a window: every step's product of its rows with the pool of candidates."""
    steps = getattr(stage.objective, "steps", 1)
    return float(stage.rows * steps * stage.module.z_channels * stage.module.c_channels)
