"""A data set that lies in memory, and stores of it."""

import numpy as np

from stagewise.datasets.base import Dataset
from stagewise.datasets.labels import FrameTable, ItemLabels, frame_count
from stagewise.stores import Scaling, StoreReader, StoreSpec, StoreWriter

LENGTHS = np.array([900, 0, 2500, 410, 1700])


class InMemory(Dataset):
    """Noise; even items train, odd ones test."""

    sample_rate = 16000
    bad = ()

    def __init__(self, lengths=LENGTHS, channels=1, labels=None, seed=0):
        rng = np.random.default_rng(seed)
        self.lengths, self.channels = np.array(lengths), channels
        self.arrays = [rng.standard_normal((channels, n)).astype(np.float32) for n in lengths]
        self.keys = [f"item-{number}" for number in range(len(lengths))]
        self.labels = labels or {}

    def read(self, item, start, stop):
        assert 0 <= start <= stop <= self.lengths[item]
        return self.arrays[item][:, start:stop]

    def split(self, name):
        return np.arange(int(name == "test"), len(self), 2)

    def fingerprint(self):
        return "f" * 64


def phones(lengths, classes=3, seed=0):
    """Random classes, a few of them unknown, for every item that is long enough."""
    rng = np.random.default_rng(seed)
    counts = [frame_count(int(n)) for n in lengths]
    table = rng.integers(-1, classes, sum(counts)).astype(np.int16)
    return FrameTable(table, np.concatenate([[0], np.cumsum(counts)]), [str(c) for c in range(classes)])


def speakers(classes):
    return ItemLabels(np.array(classes), ["ann", "bob"])


def write_store(folder, items, dtype="float32", compress="none"):
    """A store of float32 arrays (T, C), in shards of a few rows."""
    folder.mkdir(parents=True, exist_ok=True)
    spec = StoreSpec(np.array([len(i) for i in items]), items[0].shape[1:], dtype, compress, 4096)
    rows = np.concatenate(items)
    scaling = Scaling.fit(rows.min(0), rows.max(0)) if dtype == "int8" else None
    with StoreWriter(folder, spec, "f" * 64, scaling) as writer:
        writer.append(rows)
        writer.commit()
    return StoreReader(folder)
