"""Epochs of windows: a pure function of the seed, every item as often as promised, resumable anywhere."""

from itertools import islice

import numpy as np
import pytest

from stagewise.modules import Geometry, Layer
from stagewise.training.windows import Windows

GEOMETRY = Geometry((Layer(10, 5, 2, 2), Layer(8, 4, 2, 2)))
LENGTHS = np.array([900, 100, 3000, 0, 700, 1500, 640, 5000])
ROWS = 20


def windows(items=range(8), per_item=1, lengths=LENGTHS, geometry=GEOMETRY):
    return Windows(np.array(items, np.int64), lengths, geometry, ROWS, per_item)


def flat(batches):
    return [
        (int(item), int(begin), skip, batch.span)
        for batch in batches
        for item, begin, skip in zip(batch.items, batch.begins, batch.skips, strict=True)
    ]


def test_an_epoch_is_a_pure_function_of_its_seed():
    drawn = flat(windows(per_item=3).batches(4, 0, "conv1", "epoch", 1))
    assert drawn == flat(windows(per_item=3).batches(4, 0, "conv1", "epoch", 1))
    for other in ((1, "conv1", "epoch", 1), (0, "conv2", "epoch", 1), (0, "conv1", "epoch", 2)):
        assert drawn != flat(windows(per_item=3).batches(4, *other))


@pytest.mark.parametrize("per_item", [1, 3])
def test_every_long_enough_item_is_taken_as_often_as_promised(per_item):
    some = windows(per_item=per_item)
    fitting = [0, 2, 4, 5, 6, 7]  # 100 and 0 samples are too few
    assert some.starts.tolist() == [GEOMETRY.window_starts(n, ROWS) for n in LENGTHS]
    items, first = some.epoch(7)
    assert sorted(items.tolist()) == sorted(fitting * per_item)
    assert all(0 <= f < GEOMETRY.window_starts(LENGTHS[i], ROWS) for i, f in zip(items, first, strict=True))
    assert items.tolist() != sorted(items.tolist())


def test_windows_reach_the_first_and_the_last_start():
    one = windows(items=[6])  # 640 samples: few places
    starts = int(one.starts[0])
    assert {int(one.epoch(seed)[1][0]) for seed in range(40 * starts)} == set(range(starts))


def test_cover_counts_the_windows_that_lie_side_by_side():
    some = windows(per_item="cover")
    inside = [max(0, GEOMETRY.window_starts(n, ROWS) + ROWS - 1) // ROWS for n in LENGTHS]
    assert some.counts.tolist() == inside
    assert inside[7] == 12


@pytest.mark.parametrize(("size", "steps", "sizes"), [(2, 3, [2, 2, 2]), (4, 1, [4]), (6, 1, [6]), (50, 1, [6])])
def test_batches_are_of_one_size(size, steps, sizes):
    some = windows()
    batches = list(some.batches(size, 3))
    assert some.steps(size) == steps
    assert [len(b.items) for b in batches] == [len(b.skips) for b in batches] == sizes
    assert {b.span for b in batches} == {GEOMETRY.window_span(ROWS)}
    assert len({item for item, *_ in flat(batches)}) == sum(sizes)  # nobody twice


@pytest.mark.parametrize("size", [1, 2, 4, 5, 6, 7, 17, 18, 19])
@pytest.mark.parametrize("per_item", [1, 3])
def test_every_window_is_in_one_of_even_batches(size, per_item):
    some = windows(per_item=per_item)
    batches = list(some.batches(size, 3, every=True))
    sizes = [len(b.items) for b in batches]
    assert sum(sizes) == some.count == 6 * per_item
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= size
    assert flat(batches) == flat(some.batches(some.count, 3))


def test_one_item():
    assert [b.items.tolist() for b in windows(items=[5]).batches(8, 0)] == [[5]]


@pytest.mark.parametrize("items", [[], [1], [1, 3]])
def test_nothing_that_fits_gives_no_batch(items):
    assert windows(items=items).steps(8) == 0
    assert list(windows(items=items).batches(8, 0, every=True)) == []
    assert list(windows(items=items).batches(8, 0)) == []
    assert list(windows(items=items, per_item="cover").batches(8, 0)) == []


def test_an_epoch_goes_on_from_any_step():
    def batches():
        return windows(per_item=5).batches(4, 0, "a", 2)

    every = flat(batches())
    for done in range(8):
        assert flat(islice(batches(), done, None)) == every[4 * done :]


def test_only_windows_at_the_left_edge_have_another_skip():
    shift = -(GEOMETRY.first // GEOMETRY.hop)
    some = windows(per_item=40)
    first = some.epoch(1)[1].tolist()
    drawn = flat(some.batches(1, 1))
    assert min(first) < shift < max(first)
    for start, (_, begin, skip, _) in zip(first, drawn, strict=True):
        assert (begin, skip) == (max(0, start - shift) * GEOMETRY.hop, min(start, shift))
