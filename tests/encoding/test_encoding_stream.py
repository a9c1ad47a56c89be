"""Streaming in pieces against one pass over the whole item, and against streaming from stores in between."""

import numpy as np
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


@given(stacks, stacks, st.integers(1, 900), st.floats(0, 1), st.booleans())
@settings(deadline=None, max_examples=30)
def test_it_goes_on_after_any_piece_with_the_same_bits(below, above, length, share, lost):
    """What the next row needs is in `states`; without it, all is computed again, and given from that row on."""
    stages = [stage(below)]
    stages.append(stage(None, stages[0].out_channels, recurrent=True))
    stages.append(stage(above, WIDTH))
    x, states, kept = noise(length), {}, []
    for piece in stream(Item(x), length, stages, 1, states=states):
        kept.append((piece, dict(states)))
    if not kept:
        return
    done = int(share * (len(kept) - 1))
    row = sum(piece.shape[2] for piece, _ in kept[: done + 1])
    rest = list(stream(Item(x), length, stages, 1, first=row, states={} if lost else kept[done][1]))
    assert torch.equal(torch.cat([x.new_empty(1, WIDTH, 0), *rest], 2), torch.cat([p for p, _ in kept], 2)[:, :, row:])


def test_states_that_no_later_row_needs_are_forgotten():
    stages = [stage([("conv", 4, 2, 1, 1)]), stage(None, WIDTH, recurrent=True), stage([("conv", 9, 3, 0, 1)], WIDTH)]
    states, most = {}, 0
    for _ in stream(Item(noise(9000)), 9000, stages, 1, states=states):
        most = max(most, len(states))
    assert 1 < most <= 4


def stage_channels(stack):
    return WIDTH if any(kind == "conv" for kind, *_ in stack) else 1


def test_pieces_are_as_small_as_asked():
    stages = [stage([("conv", 4, 2, 1, 1)])]
    x = noise(4001)
    assert [p.shape[2] for p in streamed(stages, x, 1)] == [64] * 31 + [16]
    assert [p.shape[2] for p in streamed(stages, x)] == [2000]
    some = streamed(stages, x, 4 * 3 * 500)  # three channels, 500 rows, four bytes each
    assert [p.shape[2] for p in some] == [500] * 4


def test_what_is_read_here_and_there_is_not_kept_in_between(monkeypatch):
    x, most, cat = noise(100_000), 0, torch.cat

    def followed(parts, dim):
        nonlocal most
        made = cat(parts, dim)
        most = max(most, made.shape[dim])
        return made

    monkeypatch.setattr(streaming.torch, "cat", followed)
    trail = streaming.Trail(iter(x.split(100, 2)))
    for begin, end in ((0, 250), (200, 300), (300, 301), (50_050, 50_500), (50_500, 50_600), (99_999, 100_000)):
        assert torch.equal(trail.read(begin, end), x[:, :, begin:end])
    assert 100 < most <= 600


def test_no_stage_hands_the_rows_through():
    x = noise(300, 2)
    pieces = streamed([], x, 1)
    assert [p.shape[2] for p in pieces] == [64] * 4 + [44]
    wide = stream(Item(x), 300, [], 100 * 2 * 4, row_shape=(2,))
    assert [p.shape[2] for p in wide] == [100] * 3
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


def from_rows(z):
    """A reader of rows as a store holds them: another order in memory, float32, wherever they begin."""
    z_TC = np.empty((z.shape[2] * z.shape[1] + 1,), np.float32)[1:].reshape(z.shape[2], z.shape[1])
    z_TC[:] = z[0].T.float().numpy()
    return lambda start, stop: torch.from_numpy(z_TC[start:stop]).T[None]


def assert_the_same_bits_by_every_way(stages, x, piece_bytes):
    length = x.shape[2]
    expected = torch.cat(streamed(stages, x, piece_bytes), 2)
    for cut in range(1, len(stages)):
        z = torch.cat(list(stream(from_rows(x), length, stages[:cut], piece_bytes)), 2)
        assert torch.equal(torch.cat(list(stream(from_rows(z), z.shape[2], stages[cut:], piece_bytes)), 2), expected)


@pytest.mark.parametrize(
    ("precision", "width", "threads"),
    [(torch.float32, 512, 1), pytest.param(torch.float32, 512, 2, marks=pytest.mark.slow), (torch.bfloat16, 64, 1)],
)
def test_the_papers_stages_give_the_same_bits_from_data_and_from_stores(precision, width, threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        torch.manual_seed(0)
        channels, layers = 1, [{name: value[i] for name, value in PAPER.items()} for i in (0, 1, 3)]
        stages = []
        for layer in layers:
            stages.append(
                StageModule(Conv1d(channels, **layer | {"out_channels": width}), None, channels, precision=precision)
            )
            channels = width
        stages.append(StageModule(None, GRU(width, 256), width, precision=precision))
        x = noise(12000, dtype=torch.float32)
        assert_the_same_bits_by_every_way(stages, x, 1024 * width)
        pieces = streamed(stages, x, 1024 * width)
        assert len(pieces) > 1
        assert pieces[0].dtype == torch.float32
        expected = whole(stages, x)
    finally:
        torch.set_num_threads(before)
    assert_same(pieces, expected, rtol=0, atol=1e-6 if precision == torch.float32 else 1e-2)


class Sum(torch.nn.Conv1d):
    """Adds to what it is given: in which precision that is shows in the sum."""

    def forward(self, x):
        return x + super().forward(x)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [5, 24, 64])
def test_stages_of_any_width_give_the_same_bits_from_data_and_from_stores(width, precision):
    torch.manual_seed(0)
    low = StageModule(Conv1d(1, width, 8, 4, 2), None, 1, precision=precision)
    middle = StageModule(Sum(width, width, 3, padding=1), GRU(width, 32), width, precision=precision)
    high = StageModule(Conv1d(32, width, 3, 2, 1), None, 32, precision=precision)
    for length in (4001, 300):
        assert_the_same_bits_by_every_way([low, middle, high], noise(length, dtype=torch.float32), 2**14)


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
