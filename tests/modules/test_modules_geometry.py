"""Receptive fields, hops and row counts: against the published table, against torch, against trying."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_stacks import PAPER, build, stacks
from torch import nn

from stagewise.errors import ConfigError
from stagewise.modules import GRU, Conv1d, Geometry, Layer, geometry_of
from stagewise.modules.measured_geometry import out_channels


class Opaque(nn.Module):
    """A module that nothing is known about."""

    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, x):
        return self.inside(x)


class SelfAttention(nn.Module):
    def forward(self, x):
        return x @ torch.softmax(x.transpose(1, 2) @ x, 2)


class TorchGRU(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 4, batch_first=True)

    def forward(self, x):
        return self.gru(x.transpose(1, 2))[0].transpose(1, 2)


class Causal(nn.Conv1d):
    """A well-known idiom: a convolution that pads in its own forward."""

    def forward(self, x):
        return super().forward(nn.functional.pad(x, (self.kernel_size[0] - 1, 0)))


class Residual(nn.Sequential):
    """A chain by its class, not by its forward."""

    def forward(self, x):
        return x + super().forward(x)


class PairsOfRows(nn.Module):
    """Every row sees its pair: local, but not a sliding window."""

    def forward(self, x):
        return x.unflatten(2, (-1, 2)).mean(3).repeat_interleave(2, 2)


def test_the_papers_table():
    table = [(10, 5, -2), (45, 20, -12), (105, 40, -52), (225, 80, -132), (465, 160, -212)]
    for depth, (field, hop, first) in enumerate(table, 1):
        layers = {name: numbers[:depth] for name, numbers in PAPER.items()}
        encoder = Conv1d(1, **{**layers, "out_channels": 8})
        geometry = geometry_of(encoder, 1)
        assert (geometry.receptive_field, geometry.hop, geometry.first) == (field, hop, first)
        assert geometry.rows(20480) == [4095, 1023, 512, 257, 128][depth - 1]
        assert geometry.centre == first + (field - 1) / 2
    assert geometry_of(nn.Sequential(encoder, GRU(8, 4)), 1) == Geometry(geometry.layers, recurrent=True)


def test_parameter_counts():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    encoder = Conv1d(1, **PAPER)
    convs = [count(layer) for layer in encoder if isinstance(layer, nn.Conv1d)]
    assert convs == [5_632, 2_097_664, 1_049_088, 1_049_088, 1_049_088]
    assert count(GRU(512, 256)) == 591_360


@given(stacks, st.integers(0, 200))
@settings(deadline=None, max_examples=60)
def test_row_counts_are_torchs(stack, length):
    modules = build(stack)
    try:
        rows = modules(torch.zeros(1, 1, length)).shape[2]
    except RuntimeError:  # too short
        rows = 0
    assert geometry_of(modules, 1).rows(length) == rows


@given(stacks)
@settings(deadline=None, max_examples=20)
def test_what_trying_finds_is_what_the_arguments_say(stack):
    modules = build(stack)
    known, found = geometry_of(modules, 1), geometry_of(Opaque(modules), 1)
    assert (found.hop, found.receptive_field, found.first) == (known.hop, known.receptive_field, known.first)
    lengths = range(known.receptive_field, known.receptive_field + 3 * known.hop)
    assert [found.rows(n) for n in lengths] == [known.rows(n) for n in lengths]


@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (Causal(4, 4, 3), Layer(3, 1, 2, 0)),
        (nn.Conv1d(4, 4, 4, padding="same"), Layer(4, 1, 1, 2)),
        (nn.Conv1d(4, 4, 3, padding=1, padding_mode="reflect"), Layer(3, 1, 1, 1)),
        (nn.Conv1d(4, 4, 3, padding=1, padding_mode="replicate"), Layer(3, 1, 1, 1)),
        (Residual(nn.Conv1d(4, 4, 1), nn.ReLU()), Layer(1)),
        (nn.MaxPool1d(3, 2, ceil_mode=True), Layer(3, 2, 0, 1)),
        (nn.Conv1d(4, 4, 100), Layer(100)),
        (nn.Softmax(1), Layer(1)),
    ],
)
def test_modules_with_rules_of_their_own(module, layer):
    assert geometry_of(module, 4) == Geometry((layer,))


@pytest.mark.parametrize(
    "module",
    [
        nn.GroupNorm(2, 4),
        nn.InstanceNorm1d(4),
        SelfAttention(),
        TorchGRU(),
        nn.Conv1d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.AdaptiveAvgPool1d(16),
        nn.Upsample(scale_factor=2),
        PairsOfRows(),
        nn.Softmax(2),
    ],
    ids=lambda module: type(module).__name__,
)
def test_what_cannot_be_computed_in_pieces_is_refused(module):
    name = type(module).__name__
    with pytest.raises(ConfigError) as raised:
        geometry_of(nn.Sequential(nn.ReLU(), module), 4, "stage.top.encoder")
    assert str(raised.value) == (
        f"stage.top.encoder.1: the rows of {name} do not depend on a bounded window of its input, so it cannot be "
        "computed in pieces. Use a local module, or derive from stagewise.modules.Recurrent."
    )


def test_rows_of_nothing_but_padding_are_refused():
    with pytest.raises(ConfigError) as raised:
        geometry_of(nn.Conv1d(1, 1, 3, padding=3), 1, "stage.a.encoder")
    assert str(raised.value) == (
        "stage.a.encoder: Conv1d has rows that see nothing but padding. Make its padding smaller than its kernel "
        "(3 rows)."
    )


def test_a_module_of_another_shape_is_refused():
    with pytest.raises(ConfigError, match=r"^stage.a.encoder: Flatten must return one tensor of shape \(B, C, T\)"):
        geometry_of(nn.Flatten(), 1, "stage.a.encoder")
    with pytest.raises(ConfigError, match="AssertionError|does not take an input of shape") as raised:
        geometry_of(Opaque(nn.Conv1d(3, 4, 1)), 5, "stage.a.encoder")
    assert str(raised.value).startswith("stage.a.encoder: Opaque does not take an input of shape (B, 5, T): ")
    assert str(raised.value).endswith(". Make it take 5 channels, of rows as conv1d and gru do.")


def test_trying_changes_nothing():
    frozen = nn.BatchNorm1d(4).eval()
    module = Opaque(nn.Sequential(nn.BatchNorm1d(4), frozen, nn.Dropout(0.5), nn.Conv1d(4, 4, 3)))
    tensors = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    before = torch.get_rng_state()
    assert geometry_of(nn.Sequential(module), 4).receptive_field == 3
    assert torch.equal(before, torch.get_rng_state())
    assert module.training
    assert not frozen.training
    assert all(torch.equal(tensors[name], tensor) for name, tensor in module.state_dict().items())


def test_a_norm_of_other_channels_is_refused():
    stack = nn.Sequential(nn.Conv1d(1, 6, 3), nn.BatchNorm1d(4))
    with pytest.raises(ConfigError, match=r"stage\.1: BatchNorm1d does not take an input of shape .B, 6, T"):
        out_channels(stack, 1, "stage")
