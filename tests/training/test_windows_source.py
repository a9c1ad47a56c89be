"""Rows as a module takes them, from samples and from stores."""

import numpy as np
import pytest
import torch
from small_data import InMemory, write_store

from stagewise.training.feed import RawSource, StoreSource

CPU = torch.device("cpu")


def test_samples():
    dataset = InMemory(channels=2)
    source = RawSource(dataset)
    assert (source.channels, source.lengths.tolist()) == (2, dataset.lengths.tolist())
    x_BCT = source.finish(source.gather(np.array([2, 0]), np.array([40, 0]), 30))
    assert x_BCT.dtype == torch.float32
    assert np.array_equal(x_BCT, np.stack([dataset.arrays[2][:, 40:70], dataset.arrays[0][:, :30]]))
    assert np.array_equal(source.read(3, 5, 9, CPU)[0], dataset.arrays[3][:, 5:9])


@pytest.mark.parametrize(
    ("dtype", "compress"), [("float32", "none"), ("float16", "none"), ("int8", "none"), ("int8", "zstd")]
)
def test_rows_of_a_store(tmp_path, dtype, compress):
    rng = np.random.default_rng(0)
    items = [rng.standard_normal((n, 6)).astype(np.float32) for n in (40, 0, 300)]
    store = write_store(tmp_path / "s", items, dtype, compress)
    source = StoreSource(store)
    assert (source.channels, source.lengths.tolist()) == (6, [40, 0, 300])
    wanted = np.array([2, 0, 2]), np.array([130, 0, 260])
    stored = source.gather(*wanted, 40)
    assert (stored.shape, stored.numpy().dtype) == ((3, 40, 6), np.dtype(dtype))
    z_BCT = source.finish(stored)
    assert z_BCT.dtype == torch.float32
    for z_CT, item, start in zip(z_BCT, *wanted, strict=True):
        assert np.array_equal(z_CT.T, store.read(item, start, start + 40))  # to the last bit
    assert np.array_equal(source.read(2, 7, 90, CPU)[0].T, store.read(2, 7, 90))
    assert source.read(0, 3, 3, CPU).shape == (1, 6, 0)


def test_what_is_stored_is_not_changed_by_reading_it(tmp_path):
    store = write_store(tmp_path / "s", [np.linspace(-1, 1, 60, dtype=np.float32).reshape(20, 3)])
    source = StoreSource(store)
    stored = source.gather(np.array([0]), np.array([0]), 20)
    before = stored.clone()
    source.finish(stored)
    assert torch.equal(stored, before)
