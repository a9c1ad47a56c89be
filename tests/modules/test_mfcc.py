"""Log-mel spectra and mel-frequency cepstral coefficients: against torchaudio, against scipy, and in pieces."""

from pkgutil import resolve_name

import numpy as np
import pytest
import scipy
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st
from random_stacks import PAPER
from torch import nn

from stagewise.modules import SHORT_NAMES, Conv1d, Layer, LogMel, Mfcc, geometry_of
from stagewise.modules.measured_geometry import out_channels

MFCC = Mfcc()
GEOMETRY = geometry_of(MFCC, 1)


def noise(samples, seed=0):
    return torch.randn(1, 1, samples, generator=torch.Generator().manual_seed(seed))


def mel_filters(hertz):
    """40 triangles from 0 to 8,000 Hz, of frequencies: (40, F)."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 42) / 2595) - 1)
    rising = (hertz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - hertz) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))


def by_scipy(samples, rows):
    """13 coefficients and two orders of differences of the first rows, in float64, from the definitions."""
    padded = np.concatenate([np.zeros(180), samples, np.zeros(179)])
    frames = np.stack([padded[160 * i : 160 * i + 400] for i in range(rows)])
    power = np.abs(np.fft.rfft(frames * scipy.signal.get_window("hann", 400))) ** 2
    filters = mel_filters(np.linspace(0, 8000, 201))
    orders = [scipy.fft.dct(np.log(power @ filters.T + 1e-6), norm="ortho")[:, :13]]
    for _ in range(2):
        wide = np.pad(orders[-1], ((2, 2), (0, 0)), mode="edge")
        orders.append(sum(k * (wide[2 + k : 2 + k + rows] - wide[2 - k : 2 - k + rows]) for k in (1, 2)) / 10)
    return np.concatenate(orders, 1).T


def test_equals_scipy():
    x = noise(8000)
    y = MFCC(x)[0].numpy()
    np.testing.assert_allclose(y, by_scipy(x[0, 0].double().numpy(), y.shape[1]), rtol=1e-3, atol=2e-3)


def test_equals_torchaudio_on_the_same_samples():
    x = noise(4000)
    spectrum = {"n_fft": 400, "hop_length": 160, "center": False, "n_mels": 40}
    theirs = torchaudio.transforms.MFCC(16_000, 13, log_mels=True, melkwargs=spectrum)
    expected = theirs(torch.nn.functional.pad(x, (180, 179)))[:, 0]
    assert torch.equal(MFCC(x)[:, :13], expected)
    assert torch.equal(MFCC(x)[:, 13:26], torchaudio.functional.compute_deltas(expected))
    assert torch.equal(Mfcc(deltas=0)(x), expected)


def test_it_is_a_local_module_whose_rows_lie_where_the_encoders_do():
    assert GEOMETRY.layers == (Layer(400 + 8 * 160, 160, 180 + 4 * 160, 179 + 4 * 160),)
    assert geometry_of(Mfcc(deltas=0), 1).layers == (Layer(400, 160, 180, 179),)
    encoder = geometry_of(Conv1d(1, **{**PAPER, "out_channels": 2}), 1)
    assert GEOMETRY.hop == encoder.hop
    assert abs(GEOMETRY.centre - encoder.centre) < 1
    assert all(GEOMETRY.rows(n) == encoder.rows(n) for n in range(2000))


@pytest.mark.parametrize("samples", [41, 42, 200, 201, 3999, 20480])
def test_items_have_as_many_rows_as_the_geometry_says(samples):
    assert MFCC(noise(samples)).shape == (1, 39, GEOMETRY.rows(samples))


@settings(max_examples=40, deadline=None)
@given(samples=st.integers(41, 9000), data=st.data())
def test_pieces_equal_the_whole(samples, data):
    x = noise(samples, samples)
    whole = MFCC(x)
    start = data.draw(st.integers(0, whole.shape[2] - 1))
    stop = data.draw(st.integers(start + 1, whole.shape[2]))
    begin, end, skip = GEOMETRY.piece(start, stop, samples)
    piece = MFCC(x[..., begin:end])[..., skip : skip + stop - start]
    torch.testing.assert_close(piece, whole[..., start:stop], rtol=1e-5, atol=1e-5)


def test_rows_do_not_depend_on_how_loud_others_are():
    x = noise(16_000)
    loud = torch.cat([x[..., :8000], 1e4 * x[..., 8000:]], 2)
    quiet = GEOMETRY.rows(8000) - 11
    assert torch.equal(MFCC(x)[..., :quiet], MFCC(loud)[..., :quiet])
    assert MFCC(torch.zeros(1, 1, 4000)).isfinite().all()


def test_loudness_is_the_level_alone():
    quiet, loud = MFCC(noise(4000)), MFCC(10 * noise(4000))
    torch.testing.assert_close(loud[:, 0], quiet[:, 0] + np.log(100) * 40**0.5, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(loud[:, 1:], quiet[:, 1:], rtol=1e-3, atol=1e-2)


def test_there_is_nothing_to_train_and_no_precision_to_lose():
    x = noise(4000).requires_grad_()
    assert not list(MFCC.parameters())
    assert not MFCC(x).requires_grad
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(MFCC(x), MFCC(x.detach()))
    assert torch.equal(MFCC(x.double()), MFCC(x))


def test_channels_are_known_without_data():
    assert out_channels(Mfcc(), 1) == 39
    assert out_channels(Mfcc(coefficients=20, deltas=1), 1) == 40


@pytest.mark.parametrize(("rate", "window", "hop"), [(8_000, 200, 80), (16_000, 512, 512)])
def test_other_settings_are_local_too(rate, window, hop):
    geometry = geometry_of(Mfcc(deltas=0, sample_rate=rate, window=window, hop=hop), 1)
    assert (geometry.hop, geometry.receptive_field) == (hop, window)
    assert geometry.centre == hop // 8 - 0.5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"deltas": -1}, "deltas must be at least 0, not -1"),
        ({"coefficients": 41}, "coefficients must be between 1 and 40, not 41"),
        ({"coefficients": 0}, "coefficients must be between 1 and 40, not 0"),
        ({"hop": 401}, "hop must be between 1 and the window's 400 samples, not 401"),
        ({"hop": 0}, "hop must be between 1 and the window's 400 samples, not 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Mfcc(**arguments)


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_every_short_name_names_a_module(name):
    assert issubclass(resolve_name(SHORT_NAMES[name]), nn.Module)


def test_log_mel_equals_scipy():
    x = noise(8000)
    y = LogMel()(x)[0].numpy()
    samples, rows = x[0, 0].double().numpy(), y.shape[1]
    padded = np.concatenate([np.zeros(180), samples, np.zeros(179)])
    window = scipy.signal.get_window("hann", 400)
    power = np.abs(np.fft.rfft([padded[160 * i : 160 * i + 400] * window for i in range(rows)], 512)) ** 2
    expected = (np.log(power @ mel_filters(np.linspace(0, 8000, 257)).T + 1e-6) - 0.69) / 4.42
    np.testing.assert_allclose(y, expected.T, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize(("rate", "window", "hop"), [(16_000, 400, 160), (8_000, 200, 80), (44_100, 1102, 441)])
def test_rows_of_log_mel_lie_where_those_of_mfcc_do(rate, window, hop):
    """No filter is empty, which torchaudio would warn of, and an item has as many rows as of any other front end."""
    module = LogMel(sample_rate=rate, window=window, hop=hop)
    theirs = geometry_of(Mfcc(sample_rate=rate, window=window, hop=hop, deltas=0), 1)
    assert geometry_of(module, 1) == theirs


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"hop": 0}, "hop must be"), ({"bands": 0}, "bands must be"), ({"bands": 129}, "bands"), ({"std": 0}, "std must")],
)
def test_log_mel_refuses_what_gives_no_spectrum(arguments, words):
    with pytest.raises(ValueError, match=words):
        LogMel(**arguments)
