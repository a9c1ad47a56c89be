"""How many epochs, and windows of an item in each, train a pipeline in a sensible time."""

from __future__ import annotations

from dataclasses import dataclass, replace

from stagewise.datasets.base import Dataset
from stagewise.planning.duration import durations
from stagewise.planning.plan import Plan
from stagewise.planning.trained_on import hold_out
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
        seconds: that all of it, with encoding and probes, is reckoned to take at most; once it was planned.
    """

    epochs: int
    patience: int
    windows_per_item: int
    items: int
    steps: int
    seconds: float = 0.0

    def shortened(self, epochs: int) -> Pace:
        """Return the same with fewer epochs."""
        return replace(self, epochs=epochs, patience=_patience(epochs))


def pace(plan: Plan) -> Pace:
    """Choose the epochs so that training ends in about two hours, or after 20,000 steps of every stage.

    Args:
        plan: of the pipeline with any number of epochs; all of its stages have the same batch size.
    """
    pipeline, dataset, top = plan.pipeline, plan.size, plan.stages[-1].built
    assert isinstance(dataset, Dataset)
    train, _ = hold_out(dataset.pool(), pipeline.data.validation, pipeline.pipeline.seed)
    reckoned, batch_size = durations(plan), top.config.train.batch_size
    window = sum(stage.step for stage in reckoned) / batch_size
    per_item, items = 1, max(1, len(train))
    if top.grid is None:
        cover = Windows(train, dataset.lengths, top.geometry, top.rows, "cover").counts
        items = max(1, int((cover > 0).sum()))
        # Not all: the lowest stage's windows are 32 times shorter than the fifth's, and it would take as many more.
        affordable = min(BUDGET / window, MOST_STEPS * batch_size) / FEWEST_EPOCHS
        per_item = max(1, int(min(cover.sum(), affordable) / items))
    epoch = items * per_item
    steps = max(1, epoch // batch_size)
    epochs = max(1, min(MOST_EPOCHS, MOST_STEPS // steps, int(BUDGET / (epoch * window))))
    return Pace(epochs, _patience(epochs), per_item, items, steps)


def _patience(epochs: int) -> int:
    return max(1, min(10, epochs // 3))
