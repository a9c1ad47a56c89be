"""Epochs of crops: a pure function of the seed, inside their images, every image as often as promised."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stagewise.modules.stage_module import Window
from stagewise.training.windows import Crops

GRIDS = np.array([[5, 5], [4, 9], [2, 8], [3, 3], [7, 4], [6, 2]])


def crops(items=range(6), grid=(3, 3), per_item=1, pixels=True, grids=GRIDS):
    return Crops(np.array(items, np.int64), grids, grid, per_item, pixels)


def flat(batches):
    return [
        (int(item), int(begin), batch.seeds[number] if batch.seeds else None)
        for batch in batches
        for number, (item, begin) in enumerate(zip(batch.items, batch.begins, strict=True))
    ]


sides = st.tuples(st.integers(1, 7), st.integers(1, 7))


@given(
    st.lists(sides, min_size=1, max_size=6),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.integers(1, 3),
    st.integers(1, 5),
    st.booleans(),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=100)
def test_every_crop_lies_in_its_image(grids, grid, per_item, size, pixels, seed):
    grids = np.array(grids)
    some = crops(range(len(grids)), grid, per_item, pixels, grids)
    fitting = [n for n, (rows, columns) in enumerate(grids.tolist()) if rows >= grid[0] and columns >= grid[1]]
    batches = list(some.batches(size, seed))
    assert len(batches) == some.steps(size)
    assert len({len(batch.items) for batch in batches}) <= 1
    even = list(some.batches(size, seed, every=True))
    assert sum(len(batch.items) for batch in even) == some.count == len(fitting) * per_item
    assert flat(even)[: len(flat(batches))] == flat(batches)
    for batch in batches:
        assert (batch.grid, batch.rows, batch.window) == (
            grid,
            grid[0] * grid[1],
            Window(batch.skips, batch.rows, grid),
        )
        assert batch.skips == (0,) * len(batch.items)
        for item, begin, width in zip(batch.items.tolist(), batch.begins.tolist(), batch.widths.tolist(), strict=True):
            assert width == grids[item, 1]
            top, left = divmod(begin, width)
            assert (top >= 0, left >= 0, top + grid[0] <= grids[item, 0], left + grid[1] <= width) == (True,) * 4
    drawn = [item for item, *_ in flat(batches)]
    assert set(drawn) <= set(fitting)  # an image that is too small is never drawn
    if size == 1:
        assert sorted(drawn) == sorted(fitting * per_item)
    else:
        assert len(drawn) > len(fitting) * per_item - size
        assert all(drawn.count(item) <= per_item for item in fitting)
    if pixels:
        seeds = [seed for *_, seed in flat(batches)]
        assert len(set(seeds)) == len(seeds)
    else:
        assert all(batch.seeds is None for batch in batches)


@pytest.mark.parametrize("pixels", [True, False])
def test_an_epoch_is_a_pure_function_of_its_seed(pixels):
    some = crops(per_item=3, pixels=pixels)
    drawn = flat(some.batches(4, 0, "one", "epoch", 1))
    assert drawn == flat(crops(per_item=3, pixels=pixels).batches(4, 0, "one", "epoch", 1))
    for other in ((1, "one", "epoch", 1), (0, "two", "epoch", 1), (0, "one", "epoch", 2)):
        again = flat(some.batches(4, *other))
        assert drawn != again
        assert not pixels or not {seed for *_, seed in drawn} & {seed for *_, seed in again}


def test_the_batch_size_does_not_change_what_is_drawn():
    assert flat(crops(per_item=3).batches(1, 5)) == flat(crops(per_item=3).batches(4, 5))


def test_an_epoch_goes_on_from_any_step():
    def batches():
        return crops(per_item=5).batches(4, 0, "a", 2)

    every = flat(batches())
    for done in range(5):
        assert flat(islice(batches(), done, None)) == every[4 * done :]


def test_crops_reach_every_place_alike():
    some = crops(items=[1], grid=(3, 7), per_item=300)  # an image of 4 × 9 patches: 2 · 3 places
    begins = [begin for _, begin, _ in flat(some.batches(1, 0))]
    assert set(begins) == {top * 9 + left for top in range(2) for left in range(3)}
    assert all(begins.count(place) > 20 for place in set(begins))
    assert some.starts.tolist() == [6]


def test_images_are_shuffled():
    items = [item for item, *_ in flat(crops(per_item=4).batches(1, 0))]
    assert items != sorted(items)


def test_starts_count_the_places_in_each_image():
    assert crops().starts.tolist() == [9, 14, 0, 1, 10, 0]
    assert (crops(grid=(2, 3)).rows, crops(items=[4, 0]).starts.tolist()) == (6, [10, 9])


@pytest.mark.parametrize("items", [[], [2], [2, 5]])
def test_nothing_that_fits_gives_no_batch(items):
    assert crops(items=items).steps(8) == 0
    assert list(crops(items=items).batches(8, 0)) == []


def test_a_last_smaller_batch_is_used_only_alone():
    assert [len(batch.items) for batch in crops().batches(3, 0)] == [3]
    assert [len(batch.items) for batch in crops().batches(50, 0)] == [4]
    assert (crops().steps(3), crops().steps(50)) == (1, 1)
