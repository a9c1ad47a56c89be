"""The tracker sees every storage once, from birth to death."""

import gc

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from stagewise.training.memory_measured import MemoryTracker, category, measured

KIB = 256  # floats


@pytest.mark.parametrize("fake", [True, False])
def test_births_and_deaths(fake):
    tracker = MemoryTracker()
    with FakeTensorMode() if fake else torch.no_grad(), tracker:
        a = torch.empty(4 * KIB)
        assert tracker.total == 4096
        b = a + 1
        assert tracker.total == 8192
        view = b.view(2, -1)[0]  # the same storage
        b.add_(1)
        assert tracker.total == 8192
        del b
        assert tracker.total == 8192  # the view keeps it
        del view
        assert tracker.total == 4096
        for _ in range(3):
            a = a * 2
        del a
    gc.collect()
    assert tracker.total == 0
    assert tracker.alive == {}
    assert tracker.bytes().peak == 8192


def test_a_backward_pass_returns_to_the_baseline():
    tracker = MemoryTracker()
    weight = torch.nn.Parameter(torch.randn(KIB, KIB))
    tracker.count([weight], "parameters")
    assert tracker.total == 4 * KIB * KIB
    with tracker:
        loss = (torch.randn(8, KIB) @ weight).relu().sum()
        loss.backward()
        tracker.count([weight.grad], "gradients")
        del loss
        assert tracker.total == 8 * KIB * KIB
        weight.grad = None
    assert tracker.total == 4 * KIB * KIB
    assert tracker.bytes().by_category["gradients"] == 4 * KIB * KIB


def test_categories_are_where_a_tensor_was_born():
    tracker = MemoryTracker()
    with tracker:
        with category("input"):
            x = torch.empty(KIB)
            with category("objective"):
                y = torch.empty(2 * KIB)
        z = torch.empty(3 * KIB)
        tracker.count([z], "optimizer")
        tracker.count([z], "optimizer")
    found = tracker.bytes()
    assert found.peak == sum(found.by_category.values()) == 6 * 1024
    expected = {"input": 1024, "objective": 2048, "optimizer": 3072}
    assert {name: size for name, size in found.by_category.items() if size} == expected
    del x, y, z


def test_the_peak_is_kept_as_it_was():
    tracker = MemoryTracker()
    with tracker:
        with category("input"):
            x = torch.empty(8 * KIB)
        del x
        y = torch.empty(KIB)
    assert tracker.bytes().by_category["input"] == tracker.bytes().peak == 8192
    del y


def test_a_measurement_on_a_cpu_sees_what_is_freed_inside():
    with measured(torch.device("cpu"), 1000) as peak:
        a = torch.empty(KIB << 10)
        a = a + 1
        assert peak.bytes == 0  # not yet known
    assert 2 << 20 <= peak.bytes - 1000 < (2 << 20) + 4096
    del a


def test_a_measurement_lets_errors_through():
    with pytest.raises(ZeroDivisionError), measured(torch.device("cpu"), 0):
        _ = 1 / 0


def test_a_measurement_is_silent(capfd):
    with measured(torch.device("cpu"), 0):
        torch.empty(10)
    assert capfd.readouterr() == ("", "")
