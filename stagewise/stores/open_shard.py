"""One shard's file, open for reading: its checked index, whole checked chunks, rows of checked chunks."""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stagewise.errors import IntegrityError, StagewiseError
from stagewise.stores.damage import damaged_rows
from stagewise.stores.layout import CRC_BYTES, Layout
from stagewise.stores.shard import ByteArray, decode_chunk, decode_index


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
