"""Rows against label frames: the published offsets, and the nearest centre by brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_stacks import PAPER

from stagewise.datasets.labels import HOP, SPAN, FrameLabels, frame_count
from stagewise.modules import Conv1d, Geometry, Layer, geometry_of
from stagewise.training.windows import BEST_CENTRED, Alignment


def labels(count, hop=HOP, first=SPAN / 2):
    return FrameLabels(np.zeros(count, np.int64), hop, first)


def paper(depth=5):
    return geometry_of(Conv1d(1, **{name: numbers[:depth] for name, numbers in PAPER.items()}), 1)


@pytest.mark.parametrize("offset", [-2, -1, 0, 1])
def test_row_i_is_read_against_label_i_plus_offset(offset):
    found = Alignment(paper(), offset).rows(labels(50))
    assert found.tolist() == [label - offset for label in range(50)]


def test_the_encoder_has_two_rows_more_than_there_are_labels():
    for samples in (400, 20480, 20479, 16000 * 14):
        assert paper().rows(samples) == frame_count(samples) + 2
        rows = Alignment(paper()).rows(labels(frame_count(samples)))
        assert (rows[0], rows[-1]) == (1, paper().rows(samples) - 2)


def test_the_best_centred_row_is_half_a_millisecond_off():
    geometry = paper()
    row = int(Alignment(geometry).rows(labels(1))[0])
    assert abs(geometry.centre + row * geometry.hop - 200) == 20
    assert BEST_CENTRED == -1


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 200), st.integers(1, 400), st.integers(-3, 2))
@settings(max_examples=200)
def test_with_another_hop_the_nearest_centre_is_taken(kernel, stride, padding, hop, offset):
    geometry = Geometry((Layer(kernel, stride, padding, padding),))
    rows = Alignment(geometry, offset).rows(labels(20, hop, 57.5))
    every = np.arange(-4000, 9000)
    centres = geometry.centre + every * geometry.hop
    for frame, row in enumerate(rows.tolist()):
        wanted = 57.5 + (frame + BEST_CENTRED - offset) * hop
        if not every[0] < row < every[-1]:
            continue
        distances = np.abs(centres - wanted)
        assert abs(geometry.centre + row * geometry.hop - wanted) == pytest.approx(distances.min())
    assert (np.diff(rows) >= 0).all()


def test_lower_layers_get_every_label_its_own_row():
    for depth in (1, 2, 3, 4):
        geometry = paper(depth)
        rows = Alignment(geometry).rows(labels(30))
        assert np.diff(rows).tolist() == [HOP // geometry.hop] * 29
        assert (np.abs(geometry.centre + rows * geometry.hop - (200 + 160 * np.arange(30))) <= geometry.hop / 2).all()
