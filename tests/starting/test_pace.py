"""How long a pipeline is trained: never longer than is sensible, for any amount of data and any machine."""

from types import SimpleNamespace

import pytest

from stagewise.starting import pace as module
from stagewise.starting.machine import Machine
from stagewise.starting.pace import BUDGET, MOST_STEPS, pace

MACHINE = Machine(None, 1 << 30, 10**9, 2)


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("items", [1, 50, 3000, 1_000_000])
@pytest.mark.parametrize("windows_each", [1, 7, 4000])
@pytest.mark.parametrize("flops", [1e6, 1e9])
def test_time_and_steps_stay_below_what_is_sensible(monkeypatch, images, items, windows_each, flops):
    monkeypatch.setattr(module, "forward_flops", lambda stage: flops)
    windows = items if images else items * windows_each
    recipe = SimpleNamespace(
        images=images, batch_size=8, windows=windows, expected=SimpleNamespace(items=items, samples=49 * windows)
    )
    geometry = SimpleNamespace(rows=lambda samples: samples)
    module_ = SimpleNamespace(z_channels=4, c_channels=4)
    stage = SimpleNamespace(rows=49, objective=object(), module=module_, geometry=geometry)
    chosen = pace(recipe, [stage] * 3, MACHINE)
    each = 9 * (flops + 49 * 16 / 1) / MACHINE.rate  # three passes of three stages
    epoch = items * chosen.windows_per_item
    assert chosen.epochs == 1 or chosen.epochs * epoch * each <= BUDGET * 1.01
    assert chosen.epochs * chosen.steps <= max(MOST_STEPS, chosen.steps)
    assert 1 <= chosen.patience <= max(1, chosen.epochs)
    assert epoch <= windows
    if chosen.windows_per_item > 1:
        assert chosen.epochs >= 9
    assert chosen.seconds >= chosen.epochs * epoch * each * 0.99
