"""One shard's file, open for reading: its checked index, whole checked chunks, rows of checked chunks."""

from __future__ import annotations

import errno
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

    def __init__(self, store: Path, layout: Layout, offsets: npt.NDArray[np.int64], shard: int) -> None:
        self._path, self._layout, self._offsets = store / layout.shard_path(shard), layout, offsets
        self._span = layout.shard_span(shard)
        self._chunk_stride, self._row_bytes = layout.chunk_bytes + CRC_BYTES, layout.row_bytes
        try:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            file_bytes = os.fstat(self._descriptor).st_size
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise StagewiseError(
                    f"{self._path}: too many open files: type `ulimit -n 4096`, then the same command again."
                ) from error
            raise self._damaged(f"the file cannot be opened ({error.strerror})", self._span) from error
        tail = np.empty(layout.index_bytes, np.uint8)
        self._fill(tail, max(file_bytes - len(tail), 0), None)
        try:
            self._index = decode_index(tail, layout, shard, file_bytes)
        except ValueError as error:
            raise self._damaged(str(error), self._span) from None

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

    def read_rows(self, number: int, inside: int, out: npt.NDArray[Any]) -> None:
        """Fill `out` (T, *row_shape) with rows of an uncompressed, already checked chunk, from `inside` on.

        Raises:
            IntegrityError: the file has become shorter or cannot be read.
        """
        self._fill(out, number * self._chunk_stride + inside * self._row_bytes, number)

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
