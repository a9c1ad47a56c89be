"""The stages that `init` writes for recordings suit their rate and lengths, and how loud they are is measured."""

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import InMemory
from small_files import wav
from test_starting import made

from stagewise.errors import DataError
from stagewise.modules.geometry import Geometry, Layer
from stagewise.starting.audio import STRIDES, WINDOWS, Stack, fitted, loudness

LEAST = Stack(STRIDES[-1], WINDOWS[-1], 16_000).span


def test_the_papers_stack_at_its_own_rate():
    stack = fitted(np.full(10, 30_000), 16_000)
    assert stack.layers == [(10, 5, 2), (8, 4, 2), (4, 2, 2), (4, 2, 2), (4, 2, 1)]
    assert (stack.hop, stack.window, stack.steps) == (160, 128, 12)


@pytest.mark.parametrize(
    ("rate", "hop"), [(16_000, 160), (12_000, 160), (11_025, 80), (8_000, 80), (4_000, 40), (2_000, 20), (100, 5)]
)
def test_rows_lie_about_ten_milliseconds_apart_whatever_the_rate(rate, hop):
    assert fitted(np.full(3, 10 * rate), rate).hop == hop
    why = fitted(np.full(3, 100 * rate), rate).stages(gpu=False)[4][0][2]
    assert f"a row every {hop} samples" in why


@settings(deadline=None)
@given(st.sampled_from(STRIDES), st.sampled_from(WINDOWS))
def test_the_span_is_what_the_geometry_says(strides, window):
    stack = Stack(strides, window, 16_000)
    geometry = Geometry(tuple(Layer(kernel, stride, padding, padding) for kernel, stride, padding in stack.layers))
    assert (stack.hop, stack.span) == (geometry.hop, geometry.window_span(window))
    assert geometry.window_starts(stack.span, window) >= 1


@settings(deadline=None)
@given(st.lists(st.integers(LEAST, 60_000), min_size=1, max_size=60), st.sampled_from([16_000, 11_025, 8_000, 1_000]))
def test_nine_items_in_ten_fill_a_window_if_they_can_fill_one_at_all(lengths, rate):
    lengths = np.array(lengths)
    stack = fitted(lengths, rate)
    assert (lengths >= stack.span).mean() >= 0.9
    fill = f"{int((lengths >= stack.span).sum()):,} of {len(lengths):,}"
    why = stack.objective(lengths)[-1][2]
    assert (f"{fill} files fill one" in why) != (f"all {len(lengths):,} files fill one" in why)


def test_where_most_are_far_too_short_the_longer_ones_decide():
    assert fitted(np.array([10] * 4 + [20_000] * 6), 16_000).window == 64
    assert fitted(np.array([10] * 99 + [30_000]), 16_000).window == 128
    with pytest.raises(DataError, match="the longest file has 0.005 s, and training needs 0.008 s: join"):
        fitted(np.array([80, 20]), 16_000)


def test_short_clips_of_telephone_speech(tmp_path):
    for number in range(20):
        wav(tmp_path / "in" / f"{number:02}.wav", 0.3 + number / 50, 8_000)
    content, plan = made(tmp_path / "in", "audio")
    strides = [stage["encoder"]["stride"] for stage in content["stage"][:5]]
    assert (strides, content["defaults"]["objective"]["window"]) == ([5, 4, 2, 2, 1], 16)
    top = plan.stages[-1].built
    assert (top.geometry.hop, top.rows) == (80, 16)
    assert all(top.geometry.window_starts(int(length), top.rows) for length in plan.data.lengths)


class Loud(InMemory):
    """Items of a deviation and a mean of their own, standardised by others."""

    def __init__(self, std, mean, lengths=(40_000, 0, 16_000, 3, 90_000), silent=()):
        super().__init__(lengths)
        for number, array_CT in enumerate(self.arrays):
            array_CT *= 0 if number in silent else std
            array_CT += mean
            array_CT[:] = (array_CT - np.float32(0.01)) / np.float32(0.06)


@pytest.mark.parametrize(("std", "mean"), [(0.006, 0.01), (0.3, -0.1), (0.06, 0.05)])
def test_the_deviation_of_what_is_louder_or_quieter_is_measured(std, mean):
    (first, found_mean, _), (second, found, why) = loudness(Loud(std, mean), (0.01, 0.06))
    assert (first, second) == ("mean", "std")
    assert found_mean == pytest.approx(mean, abs=0.03 * std + 0.002)
    assert found == pytest.approx(std, rel=0.02)
    assert "0.06" in why


def test_what_is_as_loud_as_the_default_or_silent_gets_no_line():
    assert loudness(Loud(0.065, 0.012), (0.01, 0.06)) == []
    assert loudness(Loud(0.065, 0.0, silent=range(5)), (0.01, 0.06)) == []
    assert loudness(Loud(0.065, 0.0, lengths=(0, 0)), (0.01, 0.06)) == []


def test_quiet_files_are_written_with_their_own_deviation_and_come_out_standardised(tmp_path):
    for number in range(4):
        path = tmp_path / "in" / f"{number}.wav"
        wav(path, 1.0)
        samples, rate = soundfile.read(path)
        soundfile.write(path, samples / 50, rate)
    content, plan = made(tmp_path / "in", "audio")
    assert content["data"]["std"] == pytest.approx(0.002, rel=0.05)
    assert plan.data.read(0, 0, 16_000).std() == pytest.approx(1, rel=0.05)
