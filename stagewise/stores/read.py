"""Rows read from a store: shards mapped into memory, decoded, checked."""

from __future__ import annotations

import errno
import mmap
import os
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from stagewise.arrays import Ints
from stagewise.errors import IntegrityError, StagewiseError
from stagewise.stores.layout import (
    CRC_BYTES,
    STORE,
    ByteArray,
    FloatArray,
    Layout,
    Scaling,
    decode_chunk,
    decode_index,
    file_problem,
    list_files,
    read_offsets,
    read_scaling,
)
from stagewise.stores.manifest import Manifest, damaged, damaged_rows, read_manifest

# One shard's file, open for reading: its checked index, whole checked chunks, rows of checked chunks.


class OpenShard:
    """A shard's file, closed when its last reader lets go: no thread closes it under another.

    Raises:
        IntegrityError: the file is missing or its index is not what was written.
        StagewiseError: too many files are open.
    """

    _descriptor = -1

    def __init__(
        self, store: Path, layout: Layout, offsets: npt.NDArray[np.int64], shard: int, mapped: bool = False
    ) -> None:
        self._path, self._layout, self._offsets = store / layout.shard_path(shard), layout, offsets
        self._span = layout.shard_span(shard)
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            self._bytes = os.fstat(self._descriptor).st_size
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise StagewiseError(
                    f"{self._path}: too many open files: type `ulimit -n 4096`, then the same command again."
                ) from error
            raise self._damaged(f"the file cannot be opened ({error.strerror})", self._span) from error
        tail = np.empty(layout.index_bytes, np.uint8)
        self._fill(tail, max(self._bytes - len(tail), 0), None)
        try:
            self._index = decode_index(tail, layout, shard, self._bytes)[: layout.chunks_in(shard)]
        except ValueError as error:
            raise self._damaged(str(error), self._span) from None
        self._chunks = self._map() if mapped else None

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def chunk(self, number: int) -> npt.NDArray[Any]:
        """Read a chunk, check its CRC32C and give its rows (chunk_rows, *row_shape) in the stored dtype.

        Raises:
            IntegrityError: the bytes are not what was written.
        """
        position, length = self._index[number].tolist()
        block: ByteArray = np.empty(length, np.uint8)
        self._fill(block, position, number)
        try:
            return decode_chunk(block, self._layout)
        except ValueError as error:
            raise self._damaged(str(error), self._rows_of(number)) from None

    def copy_rows(self, number: int, inside: int, out: npt.NDArray[Any]) -> None:
        """Fill `out` (T, *row_shape) with rows of an uncompressed, already checked chunk, from `inside` on.

        Raises:
            IntegrityError: the file has become shorter or cannot be read.
        """
        if self._chunks is None:
            layout = self._layout
            position = number * (layout.chunk_bytes + CRC_BYTES) + inside * layout.row_bytes
            self._fill(out, position, number)
            return
        # To touch the map of a file that has become shorter kills the process: look at its length first.
        if os.fstat(self._descriptor).st_size != self._bytes:
            raise self._damaged("the file has another length than it was written with", self._rows_of(number))
        out[...] = self._chunks[number, inside : inside + len(out)]

    def _map(self) -> npt.NDArray[Any] | None:
        """Map the file as (chunks, chunk_rows, *row_shape), stepping over what lies between two chunks."""
        layout = self._layout
        try:
            memory = mmap.mmap(self._descriptor, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        except (OSError, ValueError):  # no descriptor or address left, or a file system without maps
            return None
        row = np.empty((1, *layout.row_shape), layout.dtype)
        return np.ndarray(
            (len(self._index), layout.chunk_rows, *layout.row_shape),
            layout.dtype,
            memory,
            strides=(layout.chunk_bytes + CRC_BYTES, *row.strides),
        )

    def _fill(self, out: Any, position: int, number: int | None) -> None:
        """Read into an array; `number` is the chunk to name when that fails, None for the whole shard."""
        try:
            problem = "the file is shorter than it was written"
            if os.preadv(self._descriptor, (out,), position) == out.nbytes:
                return
        except OSError as error:
            problem = f"the file cannot be read ({error.strerror})"
        raise self._damaged(problem, self._span if number is None else self._rows_of(number))

    def _rows_of(self, number: int) -> range:
        first = self._span.start + number * self._layout.chunk_rows
        return range(first, min(first + self._layout.chunk_rows, self._layout.rows))

    def _damaged(self, problem: str, rows: range) -> IntegrityError:
        return damaged_rows(self._path, problem, rows, self._offsets)


# The shards that a reader holds open: the first ones as memory maps, as many as a fixed room takes.
#
# A chunk is always read with `pread` first, and its CRC32C checked. From then on its rows come out of the map, at the
# speed of memory, or with `pread` (about three quarters of it). Maps alone would be faster, but what a process has
# touched of them counts as its memory, and would grow to the size of the store. A disk that fails, or a file that is
# cut off, while a map of it is being read kills the process instead of raising an error: the run goes on from its last
# checkpoint, and the next reading of that chunk, with `pread`, says what is wrong.

OPEN_SHARDS = 64  # files
MAPPED_BYTES = 384 << 20  # of them


class OpenShards:
    """Shards by number, opened when first asked for; of those that are not mapped, the oldest makes room.

    Threads may share it: a shard stays open for as long as somebody reads from it.
    """

    def __init__(self, store: Path, layout: Layout, offsets: npt.NDArray[np.int64]) -> None:
        self._store, self._layout, self._offsets = store, layout, offsets
        mapped = MAPPED_BYTES // layout.plain_shard_bytes(0) if layout.compress == "none" else 0
        self._mapped_shards = min(mapped, OPEN_SHARDS)
        self._mapped, self._others = dict[int, OpenShard](), dict[int, OpenShard]()
        self._lock = Lock()

    def __getitem__(self, number: int) -> OpenShard:
        shard = self._mapped.get(number) or self._others.get(number)
        return self._open(number) if shard is None else shard

    def _open(self, number: int) -> OpenShard:
        mapped = number < self._mapped_shards
        held = self._mapped if mapped else self._others
        shard = OpenShard(self._store, self._layout, self._offsets, number, mapped)
        oldest = None  # closed after the lock is let go
        with self._lock:
            if number in held:  # another thread was faster: a second one would push out a shard for nothing
                return held[number]
            if not mapped and len(held) >= OPEN_SHARDS:
                oldest = held.pop(next(iter(held)))
            held[number] = shard
        del oldest
        return shard

    def clear(self) -> None:
        """Let go of all."""
        self._mapped.clear()
        self._others.clear()


# Reading a store past zarr-python: rows straight from its files, every chunk checked when first touched.
#
# Threads may share a reader; a forked worker may go on with its parent's.
#
# Shapes: T rows, *row_shape the shape of one row.

DECODED_CHUNKS = 16  # decompressed chunks that a reader keeps, usually 64 KiB each


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
