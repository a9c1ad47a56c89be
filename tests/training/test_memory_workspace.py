"""What a convolution allocates inside, against torch's profiler."""

import pytest
import torch
from torch import nn

from stagewise.training.memory_measured import MemoryTracker, in_threads, measured

CPU = torch.device("cpu")


@pytest.fixture(params=[1, 2])
def _threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def peaks(module, x, go):
    """Predicted and measured bytes of `go`, beyond what exists before."""
    go(module, x)
    module.zero_grad()
    x.grad = None
    tracker = MemoryTracker()
    tracker.count([x, *module.parameters()], "input")
    existing = tracker.total
    with tracker:
        go(module, x)
    module.zero_grad()
    x.grad = None
    with measured(CPU, existing) as peak:
        go(module, x)
    return tracker.peak - existing, peak.bytes - existing


def forward(module, x):
    with torch.no_grad():
        module(x)


def backward(module, x):
    module(x).backward(torch.ones(x.shape[0], module.out_channels, rows(module, x)))


def rows(module, x):
    return (x.shape[2] + 2 * module.padding[0] - module.kernel_size[0]) // module.stride[0] + 1


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("length", [532, 530])  # whole groups of a stride, or not
@pytest.mark.parametrize("items", [1, 4])
@pytest.mark.parametrize("grad", [True, False])
def test_a_wide_convolution(length, items, grad):
    module = nn.Conv1d(256, 256, 8, 4, 2)
    x = torch.randn(items, 256, length, requires_grad=grad)
    predicted, seen = peaks(module, x, forward)
    assert predicted == pytest.approx(seen, rel=0.05)
    predicted, seen = peaks(module, x, backward)
    assert predicted == pytest.approx(seen, rel=0.1)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("length", [532, 530])
@pytest.mark.parametrize("items", [1, 4])
def test_a_narrow_convolution_needs_no_more_than_predicted(length, items):
    module = nn.Conv1d(32, 32, 8, 4, 2)
    x = torch.randn(items, 32, length, requires_grad=True)
    predicted, seen = peaks(module, x, backward)
    assert seen <= 1.15 * predicted


def test_it_is_that_of_the_threads_that_will_share_it():
    """A forecast computes in one, for a step of many."""
    module, x = nn.Conv1d(64, 64, 8, 4, 2), torch.randn(4, 64, 530, requires_grad=True)
    peaks = {}
    for now, threads in ((1, 1), (1, 4), (4, 4)):
        tracker = MemoryTracker(threads)
        with in_threads(now), tracker:
            backward(module, x)
        peaks[now, threads] = tracker.peak
    assert peaks[1, 4] == peaks[4, 4] > peaks[1, 1]
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match="stop"), in_threads(before + 1):
        raise ValueError("stop")
    assert torch.get_num_threads() == before
