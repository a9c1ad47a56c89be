"""The grid context against a naive loop of masked kernels, and what each patch of it sees."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stagewise.modules import PixelCNN

PUBLISHED = 129_010_688  # the authors' code, 1024 channels: of these are
MASKED = 4 * 3 * 1024 * 2048  # the lowest row of each layer's vertical kernel
UNUSED = 2048 * 1024 + 2048  # the last layer's way from its vertical input to its vertical output


def seen(kernel, bias, x, r, s, top, left):
    """One output of a convolution whose kernel has its first row at r + top and its first column at s + left."""
    total = bias
    for i in range(kernel.shape[2]):
        for j in range(kernel.shape[3]):
            row, column = r + top + i, s + left + j
            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                total = total + kernel[:, :, i, j] @ x[:, row, column]
    return total


def gate(x):
    signal, gate = x[: len(x) // 2], x[len(x) // 2 :]
    return torch.tanh(signal) / (1 + torch.exp(-gate))


def naive(model, z):
    """One image (C, R, S): figure 2 of the paper, with whole 3 × 3 kernels whose lowest row is zero."""
    v = h = z
    places = [(r, s) for r in range(z.shape[1]) for s in range(z.shape[2])]

    def over(function):
        values = [function(r, s) for r, s in places]
        return torch.stack(values, 1).unflatten(1, z.shape[1:])

    for i, layer in enumerate(model.layers):
        masked = torch.cat([layer.vertical.weight, torch.zeros_like(layer.vertical.weight[:, :, :1])], 2)
        below = over(lambda r, s: seen(masked, layer.vertical.bias, v, r, s, -1, -1))  # noqa: B023
        beside = over(lambda r, s: seen(layer.horizontal.weight, layer.horizontal.bias, h, r, s, 0, -1))  # noqa: B023
        across = over(lambda r, s: layer.across.weight[:, :, 0, 0] @ below[:, r, s] + layer.across.bias)  # noqa: B023
        active = over(lambda r, s: gate(beside[:, r, s] + across[:, r, s]))  # noqa: B023
        out = over(lambda r, s: layer.join.weight[:, :, 0, 0] @ active[:, r, s] + layer.join.bias)  # noqa: B023
        if layer.carry is not None:
            below = below + over(lambda r, s: layer.carry.weight[:, :, 0, 0] @ v[:, r, s] + layer.carry.bias[:])  # noqa: B023
        v, h = over(lambda r, s: gate(below[:, r, s])), out if i == 0 else h + out  # noqa: B023
    return over(lambda r, s: model.out.weight[:, :, 0, 0] @ h[:, r, s] + model.out.bias)


def made(seed=0, **arguments):
    torch.manual_seed(seed)
    return PixelCNN(**arguments).double()


@settings(max_examples=12, deadline=None)
@given(
    channels=st.integers(1, 3),
    hidden=st.one_of(st.none(), st.integers(1, 3)),
    layers=st.integers(1, 3),
    R=st.integers(1, 4),
    S=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_values_and_gradients_equal_a_naive_loop(channels, hidden, layers, R, S, seed):
    model = made(seed, in_channels=channels, hidden_channels=hidden, layers=layers)
    z = torch.randn(2, channels, R, S, dtype=torch.float64, requires_grad=True)
    c, expected = model(z), torch.stack([naive(model, image) for image in z])
    assert c.shape == (2, model.out_channels, R, S)
    torch.testing.assert_close(c, expected, rtol=1e-11, atol=1e-12)
    inputs = (z, *model.parameters())
    ours, theirs = (torch.autograd.grad((y**3).sum(), inputs) for y in (c, expected))
    for a, b in zip(ours, theirs, strict=True):  # every parameter has a use
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("layers", "row", "column"), [(4, 5, 4), (4, 6, 0), (2, 3, 8), (1, 0, 3)])
def test_a_patch_sees_its_row_and_those_above_and_none_below(layers, row, column):
    """Exactly `layers` rows up and as many columns to either side: nothing is blind, nothing looks ahead."""
    model, z = made(in_channels=3, layers=layers), torch.randn(1, 3, 7, 9, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(z)[0, :, row, column].square().sum(), z)
    rows, columns = torch.arange(7)[:, None], torch.arange(9)
    wanted = (rows <= row) & (rows >= row - layers) & ((columns - column).abs() <= layers)
    assert torch.equal(gradient[0].ne(0).all(0), wanted)
    assert torch.equal(gradient[0].ne(0).any(0), wanted)


def test_a_nan_spoils_only_the_rows_from_its_own_on():
    model, z = made(in_channels=2), torch.randn(2, 2, 7, 7, dtype=torch.float64)
    z[1, 0, 2, 3] = torch.nan
    spoilt = model(z).isnan().any(1)
    rows, columns = torch.arange(7)[:, None], torch.arange(7)
    assert not spoilt[0].any()
    assert torch.equal(spoilt[1], (rows >= 2) & (rows <= 6) & ((columns - 3).abs() <= 4))


def test_parameters_are_the_published_ones_that_are_used():
    with torch.device("meta"):
        count = sum(p.numel() for p in PixelCNN(1024).parameters())
    assert count == PUBLISHED - MASKED - UNUSED == 101_745_664


def test_the_start_is_that_of_whole_3_by_3_kernels():
    torch.manual_seed(0)
    layer = PixelCNN(64).layers[1]
    for parameter in (layer.vertical.weight, layer.vertical.bias):
        assert 0.95 < parameter.abs().max() * (64 * 9) ** 0.5 <= 1
    assert 0.95 < layer.horizontal.weight.abs().max() * (64 * 3) ** 0.5 <= 1


def test_what_it_is():
    model = PixelCNN(3, 5)
    assert (model.out_channels, PixelCNN(3).out_channels) == (5, 3)
    with pytest.raises(ValueError, match="layers must be at least 1, not 0"):
        PixelCNN(3, layers=0)
