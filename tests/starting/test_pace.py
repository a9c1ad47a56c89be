"""How long a pipeline is trained: never longer than is sensible, for any amount of data and any machine."""

from types import SimpleNamespace

import numpy as np
import pytest

from stagewise.modules.geometry import Geometry
from stagewise.planning.policy import Policy
from stagewise.starting.machine import Machine
from stagewise.starting.pace import BUDGET, MOST_STEPS, pace

MACHINE = Machine(None, 1 << 30, 10**9, 2)
ROWS = 49  # of a window


def chosen_for(lengths, train, images=False, flops=1e6, write=True, reading=0.0):
    """The pace of three stages, and what a window costs."""
    parts = SimpleNamespace(z_channels=4, c_channels=4, geometry=Geometry())
    policies = [Policy(write, "none", "")] * 2 + [Policy(True, "none", "")]
    stage = SimpleNamespace(
        rows=ROWS, grid=(7, 7) if images else None, objective=object(), module=parts, geometry=Geometry()
    )
    dataset = SimpleNamespace(lengths=np.array(lengths))
    each = (9 * (flops + ROWS * 16) + (0 if write else 3 * flops)) / MACHINE.rate + reading * (1 if write else 3)
    return pace(dataset, np.array(train), [stage] * 3, [flops] * 3, policies, 8, MACHINE, reading), each


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("items", [1, 50, 3000, 300_000])
@pytest.mark.parametrize("windows_each", [1, 7, 4000])
@pytest.mark.parametrize("flops", [1e6, 1e9])
def test_time_and_steps_stay_below_what_is_sensible(images, items, windows_each, flops):
    windows = items if images else items * windows_each
    chosen, each = chosen_for([ROWS * windows_each] * items, range(items), images, flops)
    epoch = items * chosen.windows_per_item
    assert chosen.items == items
    assert chosen.epochs == 1 or chosen.epochs * epoch * each <= BUDGET * 1.01
    assert chosen.epochs * chosen.steps <= max(MOST_STEPS, chosen.steps)
    assert 1 <= chosen.patience <= max(1, chosen.epochs)
    assert epoch <= windows
    if chosen.windows_per_item > 1:
        assert chosen.epochs >= 9
    assert chosen.seconds >= chosen.epochs * epoch * each * 0.99


def test_only_items_that_are_trained_on_make_steps():
    lengths = [ROWS] * 60 + [ROWS - 1] * 20 + [ROWS] * 20
    whole, _ = chosen_for(lengths, range(100))
    some, _ = chosen_for(lengths, range(80))
    assert (whole.items, whole.steps) == (80, 10)
    assert (some.items, some.steps) == (60, 7)  # twenty are too short for a window


def test_what_is_not_stored_is_read_and_computed_again_in_every_epoch():
    lengths = [ROWS] * 100
    for write in (True, False):
        chosen, each = chosen_for(lengths, range(80), True, write=write, reading=0.01)
        encoding = 100 * 3 * 1e6 / MACHINE.rate  # of three stages, or of the third with all that is below it
        assert chosen.seconds == pytest.approx(chosen.epochs * 80 * each + encoding)
