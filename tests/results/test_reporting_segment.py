"""Small pictures hold what they say: pixels are pixels, a tone is a line at its frequency."""

import re

import numpy as np
import pytest
from report_examples import Page, pictures_of

from stagewise.results import neurons


def pixels(element):
    (image,) = pictures_of(element)
    return image


@pytest.mark.parametrize("channels", [1, 3])
def test_a_patch_is_its_pixels(channels):
    wanted = np.random.default_rng(0).integers(0, 256, (16, 8, channels)).astype(np.uint8)
    assert np.array_equal(pixels(neurons.patch(wanted, "a patch")), np.broadcast_to(wanted, (16, 8, 3)))
    assert Page(neurons.patch(wanted, 'a "patch"')).all("img")[0]["alt"] == 'a "patch"'


@pytest.mark.parametrize("frequency", [400, 2000, 6000])
def test_a_tone_is_loudest_at_its_frequency(frequency):
    tone = np.sin(2 * np.pi * frequency * np.arange(8000) / 16000).astype(np.float32)
    level_FN = neurons.decibels(tone, 16000)
    assert level_FN.shape == (201, 1 + (8000 - 400) // 80)
    assert (level_FN.argmax(0) * 40 == frequency).all()
    assert level_FN.max() == pytest.approx(0)
    assert level_FN.min() == pytest.approx(-60)


def test_low_frequencies_lie_below_and_lines_mark_what_is_seen():
    tone = np.sin(2 * np.pi * 400 * np.arange(8000) / 16000).astype(np.float32)
    image = pixels(neurons.spectrogram(tone, 16000, (0.1, 0.3), "a tone")).astype(int).sum(2)
    assert image[:, 30].argmax() == 200 - 10
    lines = np.flatnonzero((image == 765).all(0)).tolist()
    assert [0.0125 + 0.005 * line for line in lines] == pytest.approx([0.1, 0.3], abs=0.005)


@pytest.mark.parametrize("samples", [1, 399, 400])
def test_silence_and_very_short_sound(samples):
    assert pixels(neurons.spectrogram(np.zeros(samples, np.float32), 16000, (0, 1), "silence")).shape == (201, 1, 3)


def test_a_wave_is_its_samples():
    element = neurons.wave(np.array([0, 0.5, -0.5], np.float32), "a wave")
    (line,) = Page(element).all("polyline")
    points = [tuple(map(float, p.split(","))) for p in line["points"].split()]
    assert points == [(0, 29), (50, 2), (100, 56)]
    assert re.search(r'role="img" aria-label="a wave"', element)
    neurons.wave(np.zeros(1, np.float32), "silence")
