"""The GRU against torch's, and without back-propagation through time against a loop of single steps."""

import pytest
import torch

from stagewise.modules import GRU


def pair(**arguments):
    torch.manual_seed(1)
    gru = GRU(5, 3, **arguments).double()
    return gru, torch.randn(2, 5, 9, dtype=torch.float64, requires_grad=True)


def loop(gru, x):
    """One step at a time, the state detached before each."""
    state, rows = torch.zeros(1, len(x), 3, dtype=x.dtype), []
    for t in range(x.shape[2]):
        row, state = gru.gru(x[:, :, t : t + 1].transpose(1, 2), state.detach())
        rows.append(row[:, 0])
    return torch.stack(rows, 2)


@pytest.mark.parametrize("bptt", [True, False])
def test_values_and_gradients(bptt):
    gru, x = pair(bptt=bptt)
    expected = loop(gru, x) if not bptt else gru.gru(x.transpose(1, 2))[0].transpose(1, 2)
    inputs = [x, *gru.parameters()]
    theirs = torch.autograd.grad((expected**3).sum(), inputs)
    c = gru(x)
    ours = torch.autograd.grad((c**3).sum(), inputs)
    torch.testing.assert_close(c, gru.gru(x.transpose(1, 2))[0].transpose(1, 2), rtol=1e-12, atol=1e-14)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-13)


def test_no_gradient_crosses_time_without_bptt():
    gru, x = pair(bptt=False)
    (gradient,) = torch.autograd.grad(gru(x)[:, :, 6].sum(), x)
    assert gradient.abs().sum((0, 1)).nonzero().flatten().tolist() == [6]


@pytest.mark.parametrize("bptt", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_a_state_carries_on(bptt, grad):
    gru, x = pair(bptt=bptt)
    with torch.set_grad_enabled(grad):
        first, state = gru.advance(x[:, :, :4], None)
        second, last = gru.advance(x[:, :, 4:], state)
        torch.testing.assert_close(torch.cat([first, second], 2), gru(x), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(last[0], second[:, :, -1])
