"""A small store of every kind, written in one line, and what it must hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stagewise.stores import Manifest, Scaling, StoreSpec, StoreWriter

LENGTHS = (40, 0, 17, 1, 130, 0, 55, 0)
CHANNELS = 24


@dataclass(frozen=True)
class Written:
    folder: Path
    items: list[np.ndarray]  # what reading must give, float32
    raw: list[np.ndarray]  # the same as stored
    spec: StoreSpec
    scaling: Scaling | None
    manifest: Manifest


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Written]:
    def build(
        dtype: str = "float32",
        compress: str = "none",
        lengths: tuple[int, ...] = LENGTHS,
        row_shape: tuple[int, ...] = (CHANNELS,),
    ) -> Written:
        shard_bytes = 1200 * np.dtype(dtype).itemsize
        rng = np.random.default_rng(7)
        given = [np.maximum(rng.standard_normal((n, *row_shape)), -1).astype(np.float32) for n in lengths]
        spec = StoreSpec(
            np.array(lengths, np.int64), row_shape, dtype, compress, shard_bytes
        )  # 16 rows a chunk, 48 a shard
        rows = np.concatenate([np.empty((0, *row_shape), np.float32), *given])
        flat = rows.reshape(-1, row_shape[-1])
        scaling = None
        if dtype == "int8":
            ends = (flat.min(0), flat.max(0)) if len(flat) else (np.zeros(row_shape[-1]),) * 2
            scaling = Scaling.fit(*ends)
        folder = tmp_path / f"1-conv1-{dtype}-{compress}"
        folder.mkdir()
        with StoreWriter(folder, spec, "f" * 64, scaling) as writer:
            for item in given:
                writer.append(item)
            manifest = writer.commit()
        if scaling is None:
            raw = [item.astype(dtype) for item in given]
            items = [item.astype(np.float32) for item in raw]
        else:
            raw = [scaling.quantise(item)[0] for item in given]
            items = [scaling.dequantise(item) for item in raw]
        return Written(folder, items, raw, spec, scaling, manifest)

    return build
