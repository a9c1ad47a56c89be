"""Windows out of a store, as the trainer gets them, against a plain memory map of the same bytes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
from report import Table
from timing import interleaved, ratio

from stagewise.stores import Scaling, StoreReader, StoreSpec, StoreWriter
from stagewise.training.feed import Feed, Source, StoreSource
from stagewise.training.windows import Batch

WINDOW, CHANNELS, BATCH, ITEM_ROWS = 128, 512, 8, 2_000
COUNTED = WINDOW * CHANNELS * 2  # bytes of a window in float16


class MemmapSource(Source):
    """What one would write without a store: a file of bytes, mapped."""

    def __init__(self, path: Path, lengths: np.ndarray) -> None:
        self.rows, self.lengths, self.channels = np.memmap(path, np.int8, "r").reshape(-1, CHANNELS), lengths, CHANNELS
        self.offsets = np.concatenate([[0], np.cumsum(lengths)])

    def gather(self, items, starts, span):
        out = np.empty((len(items), span, CHANNELS), np.int8)
        for number, row in enumerate((self.offsets[items] + starts).tolist()):
            out[number] = self.rows[row : row + span]
        return out

    def finish(self, stored):
        return stored


def rows_like_relu(item: int) -> np.ndarray:
    """Seven in ten zeros, the others exponential: about what trained ReLU channels give."""
    rng = np.random.default_rng(item)
    rows = rng.standard_exponential((ITEM_ROWS, CHANNELS), np.float32)
    return rows * (rng.random(rows.shape, np.float32) < 0.3)


def write_store(folder: Path, items: int, compress: str) -> None:
    folder.mkdir()
    scaling = Scaling.fit(np.zeros(CHANNELS), np.full(CHANNELS, 12.0))
    spec = StoreSpec(np.full(items, ITEM_ROWS), (CHANNELS,), "int8", compress)
    with StoreWriter(folder, spec, "f" * 64, scaling) as writer:
        for item in range(items):
            writer.append(rows_like_relu(item % 16))
        writer.commit()


def batches(items: int, count: int, seed: int) -> Iterator[Batch]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        places = rng.integers(0, ITEM_ROWS - WINDOW, BATCH)
        yield Batch(rng.integers(0, items, BATCH), places, (0,) * BATCH, WINDOW, WINDOW)


def measure(folder: Path, items: int, compress: str, runs: int, steps: int) -> list[object]:
    store, raw = folder / f"{items}-{compress}", folder / f"{items}.raw"
    write_store(store, items, compress)
    before = psutil.Process().memory_info().rss
    reader = StoreReader(store)
    source = StoreSource(reader)
    todo = list(batches(items, steps, 0))
    for item in range(items):  # an epoch later: every chunk was checked, and lies in the page cache
        reader[item]
    for batch in todo:
        source.gather(batch.items, batch.begins, WINDOW)
    memory = psutil.Process().memory_info().rss - before
    if not raw.exists():
        with raw.open("wb") as file:
            for item in range(items):
                out = np.empty((ITEM_ROWS, CHANNELS), np.int8)
                reader.read_raw(item, 0, out)
                file.write(out.tobytes())
    plain = MemmapSource(raw, reader.lengths)
    int(plain.rows[:: 4096 // CHANNELS].sum(dtype=np.int64))  # every page of it was touched

    def bare(source: Source) -> None:
        for batch in todo:
            source.gather(batch.items, batch.begins, WINDOW)

    def fed(source: Source) -> None:
        for _ in Feed(source)(todo):
            pass

    ways = {"bare": lambda: bare(source), "bare memmap": lambda: bare(plain)}
    ways |= {"fed": lambda: fed(source), "fed memmap": lambda: fed(plain)}
    times = interleaved(ways, runs)
    size = f"{items * ITEM_ROWS * CHANNELS / 1e9:.2f} GB"
    ratios = [ratio(times["bare memmap"], times["bare"]), ratio(times["fed memmap"], times["fed"])]
    speeds = [f"{COUNTED * BATCH * steps / times[way].median / 1e6:.0f} MB/s" for way in ("bare", "fed")]
    return [f"int8, {compress}, {size}", *ratios, *speeds, f"{memory / 2**20:.0f} MiB"]


def main(runs: int = 7) -> list[Table]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [
            measure(folder, 300, "none", runs, 500),
            measure(folder, 3_000, "none", runs, 500),
            measure(folder, 300, "zstd", runs, 60),
            measure(folder, 3_000, "zstd", runs, 60),
        ]
    return [
        Table(
            ["store", "gather / memmap", "feed / feed of memmap", "gather, as float16", "feed, as float16", "memory"],
            rows,
            [
                "Rows per second of batches of eight shuffled windows of 128 × 512, over those out of one "
                "`np.memmap` of the same "
                "bytes: one thread, then with the two threads that read ahead of training. Page cache warm; "
                "`memory` is how far "
                "the resident set rose when every item was read once and then the windows."
            ],
        )
    ]


if __name__ == "__main__":
    print(*main(int(sys.argv[1]) if sys.argv[1:] else 7), sep="\n\n")
