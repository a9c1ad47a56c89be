"""Rows computed from a piece are those of the whole item: any stack, any item, any window."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_stacks import stacks, stage, whole

from stagewise.modules import Geometry, Layer
from stagewise.modules.stage_module import Window, represent
from stagewise.training.windows import Windows


def item(length):
    return torch.randn(1, 1, length, dtype=torch.float64, generator=torch.Generator().manual_seed(length))


class OneWindow(Windows):
    """The window that begins at row `per_item`."""

    def epoch(self, *seed):
        return self.items, np.array([self.per_item])


@given(stacks, st.integers(1, 300), st.data())
@settings(deadline=None, max_examples=60)
def test_any_rows_from_their_piece(stack, length, data):
    module = stage(stack)
    geometry = module.geometry
    rows = geometry.rows(length)
    if rows == 0:
        return
    start = data.draw(st.integers(0, rows - 1))
    stop = data.draw(st.integers(start + 1, rows))
    begin, end, skip = geometry.piece(start, stop, length)
    assert 0 <= begin < end <= length
    assert begin % geometry.hop == 0
    x = item(length)
    piece = whole([module], x[:, :, begin:end])[:, :, skip : skip + stop - start]
    torch.testing.assert_close(piece, whole([module], x)[:, :, start:stop], rtol=0, atol=1e-12)


@given(stacks, st.integers(1, 300), st.integers(1, 12), st.data())
@settings(deadline=None, max_examples=60)
def test_training_windows_are_rows_of_the_whole_item(stack, length, rows, data):
    module = stage(stack)
    geometry = module.geometry
    starts = geometry.window_starts(length, rows)
    if starts == 0:
        return
    x = item(length)
    expected = whole([module], x)
    assert starts + rows - 1 <= expected.shape[2]
    first = data.draw(st.integers(0, starts - 1))
    for start in {0, first, starts - 1}:
        (batch,) = OneWindow(np.array([0]), np.array([length]), geometry, rows, start).batches(1)
        begin = int(batch.begins[0])
        assert begin >= 0
        assert begin + batch.span <= length
        with torch.no_grad():
            z, _ = module.window(x[:, :, begin : begin + batch.span], Window(batch.skips, rows))
        torch.testing.assert_close(z, expected[:, :, start : start + rows], rtol=0, atol=1e-12)


@given(stacks, stacks, st.integers(1, 400), st.integers(1, 8), st.data())
@settings(deadline=None, max_examples=40)
def test_so_are_those_above_a_frozen_stage_that_is_computed_again(low, high, length, rows, data):
    below = stage(low)
    module = stage(high, below.out_channels)
    geometry = below.geometry + module.geometry
    starts = geometry.window_starts(length, rows)
    if starts == 0:
        return
    x = item(length)
    for start in {0, data.draw(st.integers(0, starts - 1)), starts - 1}:
        (batch,) = OneWindow(np.array([0]), np.array([length]), geometry, rows, start).batches(1)
        begin = int(batch.begins[0])
        with torch.no_grad():
            z, _ = module.window(represent([below], x[:, :, begin : begin + batch.span]), Window(batch.skips, rows))
        expected = whole([below, module], x)[:, :, start : start + rows]
        torch.testing.assert_close(z, expected, rtol=0, atol=1e-12)


@given(stacks, st.integers(0, 300), st.integers(1, 12))
@settings(deadline=None, max_examples=200)
def test_no_place_for_a_window_is_forgotten(stack, length, rows):
    geometry = Geometry(tuple(Layer((k - 1) * d + 1, s, p, p) for _, k, s, p, d in stack))
    hop, shift, span = geometry.hop, geometry.first // geometry.hop, geometry.window_span(rows)
    fitting = [s for s in range(length) if max(0, s + shift) * hop + span <= length]
    assert geometry.window_starts(length, rows) == len(fitting)
    assert fitting == list(range(len(fitting)))
