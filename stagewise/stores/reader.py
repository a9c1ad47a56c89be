"""Reading a store past zarr-python: rows straight from its files, every chunk checked when first touched.

Threads may share a reader; a forked worker may go on with its parent's.

Shapes: T rows, *row_shape the shape of one row.
"""

from __future__ import annotations

from functools import lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from stagewise.stores.damage import damaged, damaged_rows
from stagewise.stores.files import file_problem, list_files, read_offsets, read_scaling
from stagewise.stores.layout import STORE
from stagewise.stores.manifest import Manifest, read_manifest
from stagewise.stores.open_shards import OpenShards
from stagewise.stores.quantise import FloatArray, Scaling

DECODED_CHUNKS = 16  # decompressed chunks that a reader keeps, usually 64 KiB each

Ints = npt.NDArray[np.int64]


class StoreReader:
    """The rows of a finished store, by item: `reader[17]` gives all rows of item 17 as float32.

    Attributes:
        items, rows: how many there are.
        lengths: rows of each item, int64 (items,).
        offsets: first row of each item and, last, the number of rows, int64 (items + 1,).
        row_shape, dtype: of a row as stored.
        compressed: whether rows come out of compressed chunks, in which one channel lies after another.
        scaling: of an int8 store, else None.

    Raises:
        IntegrityError: the store is not finished, or a file is missing or is not what was written.
    """

    def __init__(self, folder: Path) -> None:
        store, self.manifest = folder / STORE, read_manifest(folder)
        self.items, self.rows = self.manifest.items, self.manifest.rows
        self.row_shape, self.dtype = self.manifest.row_shape, np.dtype(self.manifest.dtype)
        self.offsets, self.scaling = _check_files(store, self.manifest)
        self.lengths: npt.NDArray[np.int64] = np.diff(self.offsets)
        layout = self.manifest.layout
        self._chunk_rows, self._chunks_per_shard = layout.chunk_rows, layout.chunks_per_shard
        self._checked = bytearray(layout.shards * layout.chunks_per_shard)
        self.compressed = layout.compress != "none"
        self._shards = OpenShards(store, layout, self.offsets)
        # A partial, not a bound method: a reader that is let go is freed, and its files closed, at once.
        self._chunk = partial(_read_chunk, self._shards, layout.chunks_per_shard)
        self._decoded = lru_cache(DECODED_CHUNKS)(self._chunk)

    def read(self, item: int, start: int, stop: int) -> FloatArray:
        """Give rows start to stop of an item, de-quantised: float32 (stop - start, *row_shape).

        Raises:
            IntegrityError: the bytes on disk are not the bytes that were written.
        """
        raw = np.empty((stop - start, *self.row_shape), self.dtype)
        self.read_raw(item, start, raw)
        return raw.astype(np.float32, copy=False) if self.scaling is None else self.scaling.dequantise(raw)

    def read_raw(self, item: int, start: int, out: npt.NDArray[Any]) -> None:
        """Fill `out` (T, *row_shape), C-contiguous, of the stored dtype, with rows of an item from `start`.

        Raises:
            IntegrityError: the bytes on disk are not the bytes that were written.
        """
        self.gather(np.array([item]), np.array([start]), out[None])

    def gather(self, items: Ints, starts: Ints, out: npt.NDArray[Any]) -> None:
        """Fill `out` (B, T, *row_shape), of the stored dtype, with T rows of B items, each from its start.

        The rows of an item are C-contiguous in `out`, or anything at all if the store is compressed.

        Raises:
            IntegrityError: the bytes on disk are not the bytes that were written.
        """
        count, offset = out.shape[1], self.offsets.item
        if out.dtype != self.dtype or out.shape[2:] != self.row_shape:
            raise ValueError(f"out is {out.dtype} {out.shape[1:]}, rows are {self.dtype} {self.row_shape}")
        for item, start, piece in zip(items.tolist(), starts.tolist(), out, strict=True):
            row = offset(item) + start
            if item < 0 or start < 0 or row + count > offset(item + 1):
                raise IndexError(f"item {item} of {self.items} has no rows {start} to {start + count}")
            self._copy(row, piece)

    def _copy(self, row: int, out: npt.NDArray[Any]) -> None:
        """Copy rows, chunk by chunk: out of the file where it may be, out of a checked copy where it must be."""
        done, count = 0, len(out)
        while done < count:
            chunk, inside = divmod(row + done, self._chunk_rows)
            piece = out[done : done + self._chunk_rows - inside]
            done += len(piece)
            if self.compressed:
                piece[...] = self._decoded(chunk)[inside : inside + len(piece)]
            elif self._checked[chunk]:
                shard, number = divmod(chunk, self._chunks_per_shard)
                self._shards[shard].copy_rows(number, inside, piece)
            else:
                piece[...] = self._chunk(chunk)[inside : inside + len(piece)]
                self._checked[chunk] = 1

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, item: int) -> FloatArray:
        item = range(self.items)[item]
        return self.read(item, 0, self.lengths.item(item))

    def close(self) -> None:
        """Close the shards' files and drop what is cached."""
        self._shards.clear()
        self._decoded.cache_clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _read_chunk(shards: OpenShards, chunks_per_shard: int, chunk: int) -> npt.NDArray[Any]:
    shard, number = divmod(chunk, chunks_per_shard)
    return shards[shard].chunk(number)


def _check_files(store: Path, manifest: Manifest) -> tuple[npt.NDArray[np.int64], Scaling | None]:
    """Compare what is there with the manifest: all sizes, all bytes of the small files; give these."""
    sizes = list_files(store)
    for name, digest in manifest.files.items():
        problem = file_problem(store / name, digest, sizes.get(name))
        if problem:
            raise damaged(store / name, problem)
    try:
        offsets = read_offsets(store, manifest.items, manifest.rows)
        scaling = read_scaling(store, manifest.row_shape[-1]) if manifest.dtype == "int8" else None
    except ValueError as error:
        raise damaged(store, str(error)) from None
    for shard in manifest.shards:
        found = sizes.get(shard.path)
        if found != shard.bytes:
            problem = "the file is missing" if found is None else f"it has {found} bytes instead of {shard.bytes}"
            rows = range(shard.first_row, shard.first_row + shard.rows)
            raise damaged_rows(store / shard.path, problem, rows, offsets)
    return offsets, scaling
