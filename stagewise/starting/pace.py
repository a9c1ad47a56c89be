"""How many epochs, and windows of an item in each, train a pipeline in a sensible time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from stagewise.planning.build import BuiltStage
from stagewise.planning.policy import forward_flops
from stagewise.starting.machine import Machine
from stagewise.starting.recipe import Recipe

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
        steps: of an epoch.
        seconds: that training all stages for all epochs, and encoding, are reckoned to take.
    """

    epochs: int
    patience: int
    windows_per_item: int
    steps: int
    seconds: float


def pace(recipe: Recipe, built: Sequence[BuiltStage], machine: Machine) -> Pace:
    """Choose the epochs so that training ends in about two hours, or after 20,000 steps of every stage."""
    forward = [forward_flops(stage) for stage in built]
    window = sum(3 * (flops + _objective(stage)) for flops, stage in zip(forward, built, strict=True)) / machine.rate
    items, windows = recipe.expected.items, recipe.windows
    per_item, epoch = 1, windows
    if not recipe.images:
        # Not "cover": the lowest stage's windows are 32 times shorter than the fifth's, and it would take as many more.
        affordable = min(BUDGET / window, MOST_STEPS * recipe.batch_size) / FEWEST_EPOCHS
        per_item = max(1, int(min(windows, affordable) / items))
        epoch = items * per_item
    steps = max(1, epoch // recipe.batch_size)
    epochs = max(1, min(MOST_EPOCHS, MOST_STEPS // steps, int(BUDGET / (epoch * window))))
    mean = recipe.expected.samples // items
    encoding = sum(
        flops * items * stage.geometry.rows(mean) / stage.rows for flops, stage in zip(forward, built, strict=True)
    )
    seconds = epochs * epoch * window + encoding / machine.rate
    return Pace(epochs, max(1, min(10, epochs // 3)), per_item, steps, seconds)


def _objective(stage: BuiltStage) -> float:
    """Count the multiply-adds of scoring a window: every step's product of its rows with the pool of candidates."""
    steps = getattr(stage.objective, "steps", 1)
    return float(stage.rows * steps * stage.module.z_channels * stage.module.c_channels)
