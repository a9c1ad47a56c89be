"""Encoding a data set into a store against the forward pass alone, for every stage of the paper that is stored."""

from __future__ import annotations

import sys
import tempfile
from itertools import count
from pathlib import Path

import numpy as np
from paper import CHANNELS, network
from report import Table
from timing import Times, interleaved, ratio, show

from stagewise.encoding.encode import Chain, calibrate, encode
from stagewise.signals import Stop
from stagewise.stores import Scaling, StoreReader, StoreSpec, StoreWriter
from stagewise.training.feed import StoreSource

# Rows of the representation below in utterances of twelve seconds, as in LibriSpeech, and how many of them.
ITEMS = {
    "conv2": (38_400, 6),
    "conv3": (9_600, 16),
    "conv4": (4_800, 32),
    "conv5": (2_400, 64),
    "context": (1_200, 64),
}


def source_of(folder: Path, rows: int, items: int) -> StoreSource:
    """Write a store of ReLU rows for a stage to read."""
    folder.mkdir()
    scaling = Scaling.fit(np.zeros(CHANNELS), np.full(CHANNELS, 4.0))
    with StoreWriter(folder, StoreSpec(np.full(items, rows), (CHANNELS,)), "f" * 64, scaling) as writer:
        for item in range(items):
            rng = np.random.default_rng(item % 8)
            writer.append(np.maximum(rng.standard_normal((rows, CHANNELS), np.float32), 0))
        writer.commit()
    return StoreSource(StoreReader(folder))


def measure(folder: Path, name: str, runs: int) -> list[object]:
    rows, items = ITEMS[name]
    import torch

    torch.manual_seed(0)
    stage = network(name).eval().requires_grad_(False)
    chain = Chain(source_of(folder / name, rows, items), [stage], torch.device("cpu"))
    stop, turns = Stop(), count()

    def forward() -> None:
        for item in range(items):
            for _ in chain.rows(item):
                pass

    def whole(dtype: str, compress: str) -> None:
        out = folder / f"{name}-{next(turns)}"
        out.mkdir()
        encode(chain, out, dtype, compress, "f" * 64, stop, lambda *_, **__: None)

    times = interleaved(
        {
            "forward": forward,
            "calibrate": lambda: calibrate(chain, stop),
            "int8": lambda: whole("int8", "none"),
            "zstd": lambda: whole("int8", "zstd"),
            "float16": lambda: whole("float16", "none"),
        },
        runs,
        warm=1,
    )
    fixed = times["calibrate"].seconds
    plain, packed = (
        Times(tuple(t - f for t, f in zip(times[kind].seconds, fixed, strict=True))) for kind in ("int8", "zstd")
    )
    forward_times = times["forward"]
    ratios = [ratio(t, forward_times) for t in (plain, times["float16"], packed)]
    return [f"{name}, {items} items", forward_times, *ratios, show(times["calibrate"].median)]


def main(runs: int = 5) -> list[Table]:
    with tempfile.TemporaryDirectory() as name:
        rows = [measure(Path(name), stage, runs) for stage in ITEMS]
    return [
        Table(
            ["stage", "forward only", "int8 / forward", "float16 / forward", "int8 + zstd / forward", "calibration"],
            rows,
            [
                "From a store of int8 rows to a store, item by item: forward, conversion, CRC32C of every chunk, "
                "sha256 of "
                "every shard, write, fsync, rename, journal. Calibration (the range of every channel over 32 "
                "items, once a "
                "store, int8 only) is left out of the ratios and has its own column: it does not grow with the "
                "data set."
            ],
        )
    ]


if __name__ == "__main__":
    print(*main(int(sys.argv[1]) if sys.argv[1:] else 5), sep="\n\n")
