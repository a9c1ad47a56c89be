"""A stage's parts together: windows that cuts do not reach, states, precisions, refusals."""

import pytest
import torch
from torch import nn

from stagewise.errors import ConfigError
from stagewise.modules import GRU, Conv1d
from stagewise.modules.stage_module import StageModule, Window, represent


def conv(channels=1, width=4):
    return Conv1d(channels, [width, width], 4, 2, 1)


def test_crop_takes_every_windows_own_rows():
    z_BCT = torch.arange(24.0).view(2, 1, 12)
    assert Window((3, 3), 4)(z_BCT).tolist() == [[[3, 4, 5, 6]], [[15, 16, 17, 18]]]
    assert Window((0, 3), 4)(z_BCT).tolist() == [[[0, 1, 2, 3]], [[15, 16, 17, 18]]]
    assert Window((0, 3, 5), 4).of(slice(1, 3)) == Window((3, 5), 4)


def test_a_stage_without_context_hands_on_z_itself():
    z, c = StageModule(conv(), None, 1).window(torch.randn(2, 1, 40), Window((1, 2), 5))
    assert z is c
    assert z.shape == (2, 4, 5)


@pytest.mark.parametrize("part", ["context", "encoder"])
def test_a_state_never_sees_rows_that_a_cut_has_spoilt(part):
    torch.manual_seed(0)
    encoder, gru = conv(), GRU(4, 3)
    x = torch.randn(2, 1, 200)
    clean = encoder(x)[:, :, 5:25]
    window = Window((5, 5), 20)
    if part == "context":
        z, c = StageModule(encoder, gru, 1).window(x, window)
        torch.testing.assert_close(z, clean)
    else:  # the convolution belongs to a frozen stage below, computed again
        below = represent([StageModule(encoder, None, 1)], x)
        z, c = StageModule(gru, None, 4).window(below, window)
        assert z is c
    torch.testing.assert_close(c, gru(clean))


def test_layers_around_a_recurrent_one_are_blocks_of_their_own():
    encoder = nn.Sequential(conv(), nn.Sequential(GRU(4, 3), nn.ReLU()), nn.Conv1d(3, 2, 2))
    stage = StageModule(encoder, None, 1, precision=torch.bfloat16)
    assert [(b.geometry.recurrent, b.precision) for b in stage.blocks] == [
        (False, torch.bfloat16),
        (True, torch.float32),
        (False, torch.bfloat16),
        (False, torch.bfloat16),
    ]
    assert (stage.recurrent, stage.geometry.hop, stage.out_channels) == (True, 4, 2)
    full = StageModule(encoder, None, 1)
    x = torch.randn(2, 1, 80)
    assert torch.equal(full(x)[1], encoder(x))


def test_stages_of_different_precision_feed_each_other():
    low = StageModule(conv(), None, 1, precision=torch.bfloat16)
    high = StageModule(conv(4), None, 4)
    assert low(torch.randn(1, 1, 40))[1].dtype == torch.bfloat16
    assert represent([low, high], torch.randn(1, 1, 40)).dtype == torch.float32


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="^stage.a.encoder.0: Conv1d does not take an input of shape") as raised:
        StageModule(conv(3), None, 2, "stage.a")
    assert str(raised.value).endswith("Make it take 2 channels, of rows as conv1d and gru do.")
    with pytest.raises(ConfigError) as raised:
        StageModule(None, conv(), 1, "stage.a")
    assert str(raised.value) == (
        "stage.a.context: a context has one row per row of z, but its stride is 4. Make it part of the encoder."
    )


@pytest.mark.parametrize("bad", [{"kernel_size": [3, 3], "stride": [1, 1, 1]}, {"kernel_size": []}])
def test_lists_of_different_length_are_refused(bad):
    with pytest.raises(ValueError, match="one number per layer is needed in every list"):
        Conv1d(1, [4, 4], **bad)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"stride": [[]]}, r"stride must be a whole number, not \[\]"),
        ({"kernel_size": 2.5}, "kernel_size must be a whole number, not 2.5"),
        ({"padding": ["same"]}, "padding must be a whole number, not 'same'"),
        ({"out_channels": "8"}, "out_channels must be a whole number, not '8'"),
        ({"in_channels": "1"}, "in_channels must be a whole number, not '1'"),
        ({"stride": 0}, "stride must be at least 1, not 0"),
        ({"kernel_size": [3, 0]}, "kernel_size must be at least 1, not 0"),
        ({"out_channels": 0}, "out_channels must be at least 1, not 0"),
        ({"padding": -1}, "padding must be at least 0, not -1"),
    ],
)
def test_what_is_no_size_is_refused(bad, words):
    good = {"in_channels": 1, "out_channels": 4, "kernel_size": 3}
    with pytest.raises(ValueError, match=f"^{words}$"):
        Conv1d(**{**good, **bad})


@pytest.mark.parametrize(
    ("bad", "words"), [({"stride": 0}, "non-positive stride"), ({"padding": -1}, "negative padding")]
)
def test_a_convolution_of_torch_that_torch_refuses_is_refused(bad, words):
    with pytest.raises(ConfigError, match=f"^stage.a.encoder: Conv1d does not take an input of shape .*{words}"):
        StageModule(nn.Conv1d(1, 4, 3, **bad), None, 1, "stage.a")
