"""How long a pipeline is trained: never longer than is sensible, for any amount of data and any machine."""

from types import SimpleNamespace

import numpy as np
import pytest

from stagewise.datasets.base import Dataset
from stagewise.modules.geometry import Geometry
from stagewise.planning.duration import Duration
from stagewise.starting import write as module
from stagewise.starting.choose import BUDGET
from stagewise.starting.write import MOST_STEPS, pace

ROWS, BATCH = 49, 8  # of a window, of a step


class Lengths(Dataset):
    """A data set of which nothing but the lengths is known, and which items are for training."""

    def __init__(self, lengths, train):
        self.lengths, self.train = np.array(lengths), np.array(train)

    def split(self, name):
        return self.train

    def read(self, item, start, stop):
        raise AssertionError("how long a pipeline is trained needs no item to be read")

    def fingerprint(self):
        raise AssertionError("nor a fingerprint")


def chosen_for(monkeypatch, lengths, train, images=False, step=1e-2, encode=7.0, budget=BUDGET):
    """The pace of three stages whose steps take so many seconds."""
    stage = SimpleNamespace(
        rows=ROWS,
        grid=(7, 7) if images else None,
        geometry=Geometry(),
        config=SimpleNamespace(train=SimpleNamespace(batch_size=BATCH)),
    )
    settings = SimpleNamespace(data=SimpleNamespace(validation=0.0), pipeline=SimpleNamespace(seed=0))
    plan = SimpleNamespace(pipeline=settings, data=Lengths(lengths, train), stages=[SimpleNamespace(built=stage)] * 3)
    monkeypatch.setattr(module, "durations", lambda _: [Duration(step, 0.0, encode)] * 3)
    return pace(plan, budget)


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("items", [1, 50, 3000, 300_000])
@pytest.mark.parametrize("windows_each", [1, 7, 4000])
@pytest.mark.parametrize("step", [1e-3, 10.0])
def test_time_and_steps_stay_below_what_is_sensible(monkeypatch, images, items, windows_each, step):
    windows = items if images else items * windows_each
    chosen = chosen_for(monkeypatch, [ROWS * windows_each] * items, range(items), images, step)
    epoch, each = items * chosen.windows_per_item, 3 * step / BATCH
    assert chosen.items == items
    assert chosen.epochs == 1 or chosen.epochs * epoch * each <= BUDGET * 1.01
    assert chosen.epochs * chosen.steps <= max(MOST_STEPS, chosen.steps)
    assert 1 <= chosen.patience <= max(1, chosen.epochs)
    assert epoch <= windows
    if chosen.windows_per_item > 1:
        assert chosen.epochs >= 9


@pytest.mark.parametrize("budget", [60.0, 3600.0, 20_000.0])
def test_a_budget_of_ones_own_is_met(monkeypatch, budget):
    chosen = chosen_for(monkeypatch, [ROWS] * 1000, range(1000), step=1.0, budget=budget)
    took = chosen.epochs * 1000 * chosen.windows_per_item * 3 / BATCH
    assert chosen.budget == budget
    assert chosen.epochs == 1 or 0.5 * budget < took <= 1.01 * budget


def test_only_items_that_are_trained_on_make_steps(monkeypatch):
    lengths = [ROWS] * 60 + [ROWS - 1] * 20 + [ROWS] * 20
    whole, some = (chosen_for(monkeypatch, lengths, range(count)) for count in (100, 80))
    assert (whole.items, whole.steps) == (80, 10)
    assert (some.items, some.steps) == (60, 7)  # twenty are too short for a window
