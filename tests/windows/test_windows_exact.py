"""Rows computed from a piece are those of the whole item: any stack, any item, any window."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_stacks import stacks, stage, whole

from stagewise.modules.stage_module import Crop
from stagewise.windows.draw import Windows


def item(length):
    return torch.randn(1, 1, length, dtype=torch.float64, generator=torch.Generator().manual_seed(length))


@given(stacks, st.integers(1, 300), st.data())
@settings(deadline=None, max_examples=150)
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
@settings(deadline=None, max_examples=150)
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
        windows = Windows(torch.tensor([0]).numpy(), torch.tensor([length]).numpy(), geometry, rows, 1)
        windows.__dict__["epoch"] = lambda *_, start=start: (
            torch.tensor([0]).numpy(),
            torch.tensor([start]).numpy(),
        )
        (batch,) = windows.batches(1)
        begin = int(batch.begins[0])
        assert 0 <= begin
        assert begin + batch.span <= length
        with torch.no_grad():
            z, _ = module.window(x[:, :, begin : begin + batch.span], Crop(batch.skips, rows))
        torch.testing.assert_close(z, expected[:, :, start : start + rows], rtol=0, atol=1e-12)


@given(stacks, st.integers(0, 300), st.integers(1, 12))
@settings(deadline=None, max_examples=150)
def test_no_place_for_a_window_is_forgotten(stack, length, rows):
    geometry = stage(stack).geometry
    hop, shift, span = geometry.hop, geometry.first // geometry.hop, geometry.window_span(rows)
    fitting = [s for s in range(length) if max(0, s + shift) * hop + span <= length]
    assert geometry.window_starts(length, rows) == len(fitting)
    assert fitting == list(range(len(fitting)))
