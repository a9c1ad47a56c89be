"""Patches of crops and of centres, from pixels and from stores, against the grid cut by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import InMemory
from tiny_images import TinyImages

from stagewise.stores import Scaling, StoreReader, StoreSpec, StoreWriter
from stagewise.training.feed import CentreSource, RawSource, StoreSource
from stagewise.training.windows import Batch, Crops

CPU = torch.device("cpu")
GRIDS = np.array([[5, 5], [2, 3], [4, 9], [6, 3]])
KINDS = [("float32", "none"), ("float16", "none"), ("int8", "none"), ("float32", "zstd"), ("int8", "zstd")]


def write_grids(folder, grids, dtype, compress, row_shape=(2, 2, 3)):
    """A store of maps (H, W, C), one for each patch of each image."""
    folder.mkdir()
    lengths = grids.prod(1)
    rows = np.random.default_rng(0).standard_normal((lengths.sum(), *row_shape)).astype(np.float32)
    flat_NC = rows.reshape(-1, row_shape[-1])
    scaling = Scaling.fit(flat_NC.min(0), flat_NC.max(0)) if dtype == "int8" else None
    with StoreWriter(folder, StoreSpec(lengths, row_shape, dtype, compress, 1024), "f" * 64, scaling) as writer:
        writer.append(rows)
        writer.commit()
    return StoreReader(folder)


def by_hand(rows_TX, width, begin, grid):
    """Patches of a crop out of the patches of an image, first axis T."""
    image = rows_TX.reshape(-1, width, *rows_TX.shape[1:])
    top, left = divmod(begin, width)
    crop = image[top : top + grid[0], left : left + grid[1]]
    return crop.reshape(-1, *rows_TX.shape[1:])


@pytest.mark.parametrize(("dtype", "compress"), KINDS)
def test_crops_of_a_store_are_slices_of_its_grids(tmp_path, dtype, compress):
    store = write_grids(tmp_path / "s", GRIDS, dtype, compress)
    source = StoreSource(store)
    assert (source.row_shape, source.channels, source.lengths.tolist()) == ((3, 2, 2), 3, [25, 6, 36, 18])
    for batch in Crops(np.arange(4), GRIDS, (3, 2), 5, False).batches(6, 0):
        stored = source.batch(batch)
        assert (stored.shape, stored.numpy().dtype) == ((6, 6, 2, 2, 3), np.dtype(dtype))
        x_BCTHW = source.finish(stored)
        assert (x_BCTHW.dtype, x_BCTHW.shape) == (torch.float32, (6, 3, 6, 2, 2))
        for x_CTHW, item, begin in zip(x_BCTHW, batch.items.tolist(), batch.begins.tolist(), strict=True):
            expected_THWC = by_hand(store[item], GRIDS[item, 1], begin, (3, 2))
            assert np.array_equal(x_CTHW.permute(1, 2, 3, 0), expected_THWC)  # to the last bit


@given(st.lists(st.tuples(st.integers(3, 6), st.integers(2, 7)), min_size=1, max_size=4), st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_any_grids_and_any_crops(tmp_path_factory, grids, seed):
    grids = np.array(grids)
    store = write_grids(tmp_path_factory.mktemp("grids") / "s", grids, "float32", "none", (1, 1, 2))
    source = StoreSource(store)
    for grid in ((1, 1), (2, 2), (3, 2)):
        for batch in Crops(np.arange(len(grids)), grids, grid, 2, False).batches(3, seed):
            x_BCT = source.finish(source.batch(batch))[..., 0, 0]
            for x_CT, item, begin in zip(x_BCT, batch.items.tolist(), batch.begins.tolist(), strict=True):
                assert np.array_equal(x_CT.T, by_hand(store[item], grids[item, 1], begin, grid)[:, 0, 0])


def test_crops_without_seeds_are_the_image_s_own_patches():
    data = TinyImages(6, size=36)
    source = RawSource(data)
    assert source.row_shape == (1, 8, 8)
    for batch in Crops(np.arange(6), data.grids, data.crop, 3, False).batches(5, 0):
        x_BCTHW = source.finish(source.batch(batch))
        assert x_BCTHW.shape == (5, 1, 16, 8, 8)
        for x_CTHW, item, begin in zip(x_BCTHW, batch.items.tolist(), batch.begins.tolist(), strict=True):
            rows_TCHW = data.read(item, 0, 64).swapaxes(0, 1)
            assert np.array_equal(x_CTHW.movedim(1, 0), by_hand(rows_TCHW, 8, begin, (4, 4)))


def test_crops_with_seeds_are_cut_out_of_the_pixels():
    data = TinyImages(6)
    source, some = RawSource(data), Crops(np.arange(6), data.grids, data.crop, 2, True)
    for batch in some.batches(4, 0, "epoch", 1):
        x_BCTHW = source.finish(source.batch(batch))
        for x_CTHW, item, seed in zip(x_BCTHW, batch.items.tolist(), batch.seeds, strict=True):
            assert np.array_equal(x_CTHW, data.augmented(item, seed))
    again, other = (next(some.batches(12, 0, "epoch", epoch)) for epoch in (1, 2))
    assert not torch.equal(source.batch(again), source.batch(other))


def test_the_channels_of_a_patch_lie_side_by_side():
    class Colours(InMemory):
        row_shape = (3, 2, 2)

        def read(self, item, start, stop):
            return np.arange(start, stop, dtype=np.float32)[None, :, None, None] + np.zeros((3, 1, 2, 2), np.float32)

    x_BCTHW = RawSource(Colours()).gather(np.array([0, 2]), np.array([4, 0]), 5)
    assert x_BCTHW.stride(1) == 1
    assert x_BCTHW[0, 2, :, 1, 1].tolist() == [4, 5, 6, 7, 8]


def test_one_batch_call_reads_windows_and_crops(tmp_path):
    source = StoreSource(write_grids(tmp_path / "s", GRIDS, "float32", "none"))
    windows = Batch(np.array([2, 0]), np.array([3, 1]), (0, 0), 4, 4)
    assert torch.equal(source.batch(windows), source.gather(windows.items, windows.begins, 4))


def test_crops_of_a_centre_are_crops_of_its_rows():
    data = TinyImages(2, size=36)
    source = CentreSource(RawSource(data), data)  # 4 × 4 patches of each image
    crop = Batch(np.array([1]), np.array([5]), (0,), 4, 4, (2, 2), np.array([4]))
    rows = data.centre(1)[[5, 6, 9, 10]]
    assert torch.equal(source.batch(crop)[0], torch.from_numpy(data.read(1, 0, int(data.lengths[1]))[:, rows]))


@pytest.mark.parametrize("size", [20, 24, 36, 44])
def test_a_centre_is_picked_row_by_row(size):
    data = TinyImages(3, size=size)
    raw = RawSource(data)
    source = CentreSource(raw, data)
    assert (source.lengths.tolist(), source.row_shape) == ([16] * 3, (1, 8, 8))
    for item in range(3):
        rows = data.centre(item)
        every = raw.read(item, 0, int(data.lengths[item]), CPU)
        assert torch.equal(source.read(item, 0, 16, CPU), every[:, :, rows])
        for start, stop in ((0, 1), (3, 11), (15, 16)):
            assert torch.equal(source.read(item, start, stop, CPU), every[:, :, rows[start:stop]])
    both = source.finish(source.gather(np.array([2, 0]), np.array([5, 1]), 7))
    assert torch.equal(both[1:], source.read(0, 1, 8, CPU))
    assert torch.equal(both[:1], source.read(2, 5, 12, CPU))


@pytest.mark.parametrize(("dtype", "compress"), KINDS)
def test_a_centre_out_of_a_store(tmp_path, dtype, compress):
    data = TinyImages(4, size=36)
    store = write_grids(tmp_path / "s", data.grids, dtype, compress)
    source = CentreSource(StoreSource(store), data)
    assert source.row_shape == (3, 2, 2)
    for item in range(4):
        expected_THWC = store[item][data.centre(item)]
        assert np.array_equal(source.read(item, 0, 16, CPU)[0].permute(1, 2, 3, 0), expected_THWC)
        assert np.array_equal(source.read(item, 6, 9, CPU)[0].permute(1, 2, 3, 0), expected_THWC[6:9])


def test_a_centre_of_rows_without_a_map(tmp_path):
    data = TinyImages(2, size=28)
    folder = tmp_path / "s"
    folder.mkdir()
    rows = np.random.default_rng(0).standard_normal((72, 5)).astype(np.float32)
    with StoreWriter(folder, StoreSpec(data.lengths, (5,), "float32", "none", 1024), "f" * 64, None) as writer:
        writer.append(rows)
        writer.commit()
    source = CentreSource(StoreSource(StoreReader(folder)), data)
    assert np.array_equal(source.read(1, 0, 16, CPU)[0].T, rows[36:][data.centre(1)])
