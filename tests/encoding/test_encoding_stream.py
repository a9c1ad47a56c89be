"""Streaming in pieces against one pass over the whole item."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_stacks import PAPER, WIDTH, stacks, stage, whole

from stagewise.encoding import stream as streaming
from stagewise.encoding.stream import stream
from stagewise.modules import GRU, Conv1d
from stagewise.modules.stage_module import StageModule


class Item:
    """Remembers what was read of it."""

    def __init__(self, x):
        self.x, self.reads = x, []

    def __call__(self, start, stop):
        assert 0 <= start < stop <= self.x.shape[2]
        self.reads.append((start, stop))
        return self.x[:, :, start:stop]


def streamed(stages, x, piece_bytes=streaming.PIECE_BYTES):
    item = Item(x)
    pieces = list(stream(item, x.shape[2], stages, piece_bytes))
    assert item.reads == sorted(item.reads)  # from left to right
    return pieces


def noise(length, channels=1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(length)
    return torch.randn(1, channels, length, dtype=dtype, generator=generator)


def assert_same(pieces, expected, **tolerance):
    assert sum(p.shape[2] for p in pieces) == expected.shape[2]
    if pieces:
        torch.testing.assert_close(torch.cat(pieces, 2), expected, **tolerance)


@given(st.lists(stacks, min_size=1, max_size=2), st.integers(0, 900), st.integers(1, 20_000))
@settings(deadline=None, max_examples=40)
def test_local_stages(parts, length, piece_bytes):
    stages = [stage(s, channels=1 if n == 0 else stage_channels(parts[0])) for n, s in enumerate(parts)]
    rows = length
    for module in stages:
        rows = module.geometry.rows(rows)
    pieces = streamed(stages, noise(length), piece_bytes)
    assert sum(p.shape[2] for p in pieces) == rows
    if rows:
        assert_same(pieces, whole(stages, noise(length)), rtol=0, atol=1e-12)


@given(stacks, stacks, st.integers(1, 900))
@settings(deadline=None, max_examples=30)
def test_a_gru_in_the_middle(below, above, length):
    stages = [stage(below)]
    stages.append(stage(None, stages[0].out_channels, recurrent=True))
    stages.append(stage(above, WIDTH))
    rows = stages[0].geometry.rows(length)
    if stages[2].geometry.rows(rows) == 0:
        return
    assert_same(streamed(stages, noise(length), 1), whole(stages, noise(length)), rtol=0, atol=1e-12)


def stage_channels(stack):
    return WIDTH if any(kind == "conv" for kind, *_ in stack) else 1


def test_pieces_are_as_small_as_asked():
    stages = [stage([("conv", 4, 2, 1, 1)])]
    x = noise(4001)
    assert [p.shape[2] for p in streamed(stages, x, 1)] == [64] * 31 + [16]
    assert [p.shape[2] for p in streamed(stages, x)] == [2000]
    some = streamed(stages, x, 4 * 3 * 500)  # three channels, 500 rows, four bytes each
    assert [p.shape[2] for p in some] == [500] * 4


def test_no_stage_hands_the_rows_through():
    x = noise(300, 2)
    pieces = streamed([], x, 1)
    assert [p.shape[2] for p in pieces] == [64] * 4 + [44]
    assert torch.equal(torch.cat(pieces, 2), x)


@pytest.mark.parametrize("length", [0, 1, 5, 6, 211, 464])
def test_items_shorter_than_the_receptive_field(length):
    torch.manual_seed(0)
    stages = [StageModule(Conv1d(1, **{**PAPER, "out_channels": 4}), GRU(4, 3), 1).double()]
    assert stages[0].geometry.receptive_field == 465
    pieces = streamed(stages, noise(length), 1)
    assert sum(p.shape[2] for p in pieces) == stages[0].geometry.rows(length)
    if pieces:
        assert_same(pieces, whole(stages, noise(length)), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("precision", "threads"),
    [(torch.float32, 1), pytest.param(torch.float32, 2, marks=pytest.mark.slow), (torch.bfloat16, 1)],
)
def test_the_papers_stack_gives_the_same_bits(precision, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(0)
        stages = [
            StageModule(Conv1d(1, **PAPER), None, 1, precision=precision),
            StageModule(None, GRU(512, 256), 512, precision=precision),
        ]
        x = noise(20480, dtype=torch.float32)
        pieces = streamed(stages, x, 1)
        assert len(pieces) == 2
        rows = torch.cat(pieces, 2)
        expected = whole(stages, x)
    finally:
        torch.set_num_threads(before)
    assert rows.dtype == torch.float32
    assert torch.equal(rows, expected)


@pytest.mark.parametrize("width", [5, 24, 64])
def test_other_widths_give_the_same_rows_to_the_last_digits(width):
    torch.manual_seed(0)
    stages = [StageModule(Conv1d(1, **{**PAPER, "out_channels": width}), GRU(width, 32), 1)]
    x = noise(30000, dtype=torch.float32)
    assert_same(streamed(stages, x, 1), whole(stages, x), rtol=0, atol=1e-6)


def test_stages_of_two_precisions():
    torch.manual_seed(0)
    low = StageModule(Conv1d(1, 8, 4, 2, 1), None, 1, precision=torch.bfloat16)
    high = StageModule(Conv1d(8, 8, 3, 1, 1), None, 8)
    x = noise(500, dtype=torch.float32)
    assert_same(streamed([low, high], x, 1), whole([low, high], x), rtol=0, atol=1e-6)


def test_nothing_leaks_to_the_caller():
    for piece in stream(Item(noise(900)), 900, [stage([("conv", 4, 2, 1, 1)])], 1):
        assert not torch.is_inference_mode_enabled()
        assert piece.requires_grad is False
