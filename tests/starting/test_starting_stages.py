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
from stagewise.modules import Conv1d, LogMel, geometry_of
from stagewise.modules.geometry import Geometry, Layer
from stagewise.starting.audio import loudness
from stagewise.starting.audio_stages import HOPS, STRIDES, WINDOWS, MelStack, SampleStack, fitted

LEAST = max(SampleStack(16_000, WINDOWS[-1], STRIDES[-1]).span, MelStack(16_000, WINDOWS[-1], HOPS[-1]).span)


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 16_000])
def test_rows_of_mel_spectra_lie_ten_milliseconds_apart_whatever_the_rate(rate):
    stack = fitted(np.full(10, 3 * rate), rate, gpu=False)
    assert (stack.window, stack.steps, stack.spacing) == (128, 12, 1.0)
    assert stack.hop == pytest.approx(rate / 100, abs=0.5)
    assert stack.spectrum[0] == pytest.approx(rate / 40, abs=0.5)
    (name, _, why), (_, front, _) = stack.stages()[0]
    assert (name, front["target"], front["sample_rate"], front["hop"]) == ("name", "log-mel", rate, stack.hop)
    assert f"a row every {stack.hop} samples" in why


@pytest.mark.parametrize(("seconds", "spacing", "window"), [(0.1, 0.25, 16), (0.15, 0.5, 16), (0.5, 1.0, 32)])
def test_every_recording_longer_than_a_tenth_of_a_second_fills_a_window(seconds, spacing, window):
    stack = fitted(np.full(10, int(16_000 * seconds)), 16_000, gpu=False)
    assert (stack.spacing, stack.window) == (spacing, window)
    assert ("closer than the usual 10 ms" in stack.stages()[0][0][2]) == (spacing < 1)


def test_the_papers_stack_at_its_own_rate():
    stack = fitted(np.full(10, 30_000), 16_000, gpu=True)
    assert stack.layers == [(10, 5, 2), (8, 4, 2), (4, 2, 2), (4, 2, 2), (4, 2, 1)]
    assert (stack.hop, stack.window, stack.steps) == (160, 128, 12)


@pytest.mark.parametrize(
    ("rate", "hop"), [(16_000, 160), (12_000, 160), (11_025, 80), (8_000, 80), (4_000, 40), (2_000, 20), (100, 5)]
)
def test_rows_lie_about_ten_milliseconds_apart_whatever_the_rate(rate, hop):
    assert fitted(np.full(3, 10 * rate), rate, gpu=True).hop == hop
    why = fitted(np.full(3, 100 * rate), rate, gpu=True).stages()[4][0][2]
    assert f"a row every {hop} samples" in why


@pytest.mark.parametrize("rate", [100, 3_999])
def test_signals_too_slow_for_a_mel_scale_are_taken_as_they_are(rate):
    assert isinstance(fitted(np.full(3, 100 * rate), rate, gpu=False), SampleStack)


@settings(deadline=None)
@given(st.sampled_from(STRIDES), st.sampled_from(WINDOWS))
def test_the_span_is_what_the_geometry_says(strides, window):
    stack = SampleStack(16_000, window, strides)
    geometry = Geometry(tuple(Layer(kernel, stride, padding, padding) for kernel, stride, padding in stack.layers))
    assert (stack.hop, stack.span) == (geometry.hop, geometry.window_span(window))
    assert geometry.window_starts(stack.span, window) >= 1


@pytest.mark.parametrize("spacing", HOPS)
@pytest.mark.parametrize("rate", [4_000, 11_025, 16_000, 48_000])
def test_the_geometry_is_that_of_the_modules(rate, spacing):
    stack = MelStack(rate, 16, spacing)
    layers: list[Layer] = []
    for lines in stack.stages()[:-1]:
        spec = dict(next(value for key, value, _ in lines if key == "encoder"))
        kind = {"log-mel": LogMel, "conv1d": Conv1d}[spec.pop("target")]
        layers += geometry_of(kind(**spec), spec.get("in_channels", 1)).layers
    assert Geometry(tuple(layers)) == stack.geometry


@settings(deadline=None)
@given(
    st.lists(st.integers(LEAST, 60_000), min_size=1, max_size=60),
    st.sampled_from([16_000, 11_025, 8_000, 1_000]),
    st.booleans(),
)
def test_nine_items_in_ten_fill_a_window_if_they_can_fill_one_at_all(lengths, rate, gpu):
    lengths = np.array(lengths)
    stack = fitted(lengths, rate, gpu)
    assert (lengths >= stack.span).mean() >= 0.9
    fill = f"{int((lengths >= stack.span).sum()):,} of {len(lengths):,}"
    why = stack.objective(lengths)[-1][2]
    assert (f"{fill} files fill one" in why) != (f"all {len(lengths):,} files fill one" in why)


def test_where_most_are_far_too_short_the_longer_ones_decide():
    assert fitted(np.array([10] * 4 + [20_000] * 6), 16_000, gpu=False).window == 64
    assert fitted(np.array([10] * 99 + [30_000]), 16_000, gpu=False).window == 128
    with pytest.raises(DataError, match="the longest file has 0.005 s, and training needs 0.078 s: join"):
        fitted(np.array([80, 20]), 16_000, gpu=False)


def test_short_clips_of_telephone_speech(tmp_path):
    for number in range(20):
        wav(tmp_path / "in" / f"{number:02}.wav", 0.3 + number / 50, 8_000)
    content, plan = made(tmp_path / "in", "audio")
    assert [stage["name"] for stage in content["stage"]] == ["mel", "conv1", "conv2", "context"]
    assert (content["stage"][0]["encoder"]["hop"], content["defaults"]["objective"]["window"]) == (80, 16)
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
