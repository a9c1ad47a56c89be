"""Resampling by slices equals torchaudio's resampling of the whole signal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchaudio
from audio_examples import noise
from hypothesis import given, settings
from hypothesis import strategies as st

from stagewise.datasets.audio import can_resample, resample

RATES = [
    (22_050, 16_000),
    (44_100, 16_000),
    (48_000, 16_000),
    (8_000, 16_000),
    (11_025, 16_000),
    (16_000, 8_000),
]


def whole(signal: np.ndarray, source_rate: int, rate: int) -> np.ndarray:
    length = -(-len(signal) * rate // source_rate)
    return resample(lambda a, b: signal[a:b], len(signal), source_rate, rate, 0, length)


@pytest.mark.parametrize(("source_rate", "rate"), RATES)
@pytest.mark.parametrize("samples", [1, 2, 440, 441, 442, 30_000])
def test_equals_torchaudio(source_rate, rate, samples):
    signal = noise(samples, samples)[:, 0]
    # In float64: torchaudio's own float32 is up to 1e-5 away from it, ours less than 1e-6.
    expected = torchaudio.functional.resample(torch.from_numpy(signal).double(), source_rate, rate).numpy()
    result = whole(signal, source_rate, rate)
    assert result.shape == expected.shape
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6, rtol=0)


@settings(max_examples=60, deadline=None)
@given(rates=st.sampled_from(RATES), samples=st.integers(1, 40_000), data=st.data())
def test_a_slice_is_the_slice_of_the_whole(rates, samples, data):
    signal = noise(7, samples)[:, 0]
    expected = whole(signal, *rates)
    start = data.draw(st.integers(0, len(expected) - 1))
    stop = data.draw(st.integers(start + 1, len(expected)))
    result = resample(lambda a, b: signal[a:b], samples, *rates, start, stop)
    np.testing.assert_array_equal(result, expected[start:stop])


def test_reads_only_the_neighbourhood():
    signal = noise(8, 400_000)[:, 0]
    asked = []

    def read(start: int, stop: int) -> np.ndarray:
        asked.append((start, stop))
        return signal[start:stop]

    resample(read, len(signal), 44_100, 16_000, 70_000, 71_000)
    ((start, stop),) = asked
    assert start < 70_000 * 44_100 / 16_000
    assert stop > 71_000 * 44_100 / 16_000
    assert stop - start < 30_000


def test_odd_pairs_of_rates_are_refused():
    assert can_resample(44_100, 16_000)
    assert can_resample(96_000, 16_000)
    assert not can_resample(44_099, 16_000)
