"""Where every row of a store lies on disk: chunks of rows, shards of chunks, one file a shard."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

FORMAT = 2  # of manifest, journal and group; in format 1 compressed chunks lay row by row
STORE = "store.zarr"  # the Zarr group, inside the stage's folder
MANIFEST = "store.manifest.json"  # the commit marker, written last
JOURNAL = "store.journal"  # what is published so far, while the store is being written
KEPT = "store.kept"  # rows of a shard that is not full yet, while the store is being written

FILL: dict[str, float] = {
    "float32": math.nan,
    "float16": math.nan,
    "int8": 0,
}  # a hole in floats must not read as zeros
COMPRESS = ("none", "zstd")
CRC_BYTES = 4  # CRC32C is the last codec of every chunk and of every index
ENTRY_BYTES = 16  # of a shard's index: uint64 offset and length of one chunk
SHARD_BYTES = 64 << 20
# A store is at least so many shards, unless they were small: while one is written, the next one is computed.
SHARDS, SMALL_SHARD_BYTES = 8, 4 << 20


@dataclass(frozen=True)
class Layout:
    """Where the rows of `z` lie: row r is in shard r // shard_rows, whose chunks hold chunk_rows each."""

    rows: int
    row_shape: tuple[int, ...]
    dtype: str
    compress: str
    chunk_rows: int
    shard_rows: int

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of one row as stored, uncompressed."""
        return math.prod(self.row_shape) * np.dtype(self.dtype).itemsize

    @cached_property
    def chunk_bytes(self) -> int:
        """Bytes of one chunk, uncompressed and without its checksum."""
        return self.chunk_rows * self.row_bytes

    @cached_property
    def chunks_per_shard(self) -> int:
        """Entries of a shard's index."""
        return self.shard_rows // self.chunk_rows

    @cached_property
    def index_bytes(self) -> int:
        """Bytes of a shard's index, which ends the file, with its checksum."""
        return self.chunks_per_shard * ENTRY_BYTES + CRC_BYTES

    @cached_property
    def shards(self) -> int:
        """How many shard files the store has."""
        return -(-self.rows // self.shard_rows)

    def shard_path(self, shard: int) -> str:
        """Path of a shard's file relative to `store.zarr`, as Zarr's default chunk keys have it."""
        return "/".join(["z", "c", str(shard), *("0" for _ in self.row_shape)])

    def shard_span(self, shard: int) -> range:
        """The rows that a shard holds."""
        return range(shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.rows))

    def chunks_in(self, shard: int) -> int:
        """How many chunks of a shard hold rows; the others lie outside the array and are missing."""
        return -(-len(self.shard_span(shard)) // self.chunk_rows)

    def plain_shard_bytes(self, shard: int) -> int:
        """Bytes of a shard's file when nothing is compressed."""
        return self.chunks_in(shard) * (self.chunk_bytes + CRC_BYTES) + self.index_bytes


@dataclass(frozen=True, eq=False)
class StoreSpec:
    """What a store is to hold, known before the first row is computed.

    Attributes:
        lengths: rows of each item, int64 (items,).
        row_shape: shape of one row; its last axis is the channels.
        dtype: "float32", "float16" or "int8".
        compress: "none" (fastest to read) or "zstd".
        shard_bytes: about how large a shard may be, uncompressed.
    """

    lengths: npt.NDArray[np.int64]
    row_shape: tuple[int, ...]
    dtype: str = "int8"
    compress: str = "none"
    shard_bytes: int = SHARD_BYTES

    def __post_init__(self) -> None:
        if self.dtype not in FILL or self.compress not in COMPRESS:
            raise ValueError(f"no store of dtype {self.dtype!r}, compress {self.compress!r}")
        if not self.row_shape or min(self.row_shape) < 1:
            raise ValueError(f"a row has at least one axis and one channel, not shape {self.row_shape}")
        if self.lengths.ndim != 1 or (self.lengths < 0).any():
            raise ValueError("lengths are one non-negative number of rows for each item")

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.lengths)

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """First row of each item and, last, the number of rows: int64 (items + 1,)."""
        return np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)]).astype(np.int64)

    @property
    def rows(self) -> int:
        """Rows of all items."""
        return int(self.offsets[-1])

    @cached_property
    def layout(self) -> Layout:
        """Where the rows will lie: chunks of 16 to 512 rows, if possible of 128 to 256 KiB (floats: 512).

        Compressed ones are a quarter of that, because a window is only to be had with the whole of its chunks.
        """
        row_bytes = math.prod(self.row_shape) * np.dtype(self.dtype).itemsize
        chunk_bytes = ((256 << 10) if self.dtype == "int8" else (512 << 10)) // (4 if self.compress == "zstd" else 1)
        wanted = min(chunk_bytes, self.shard_bytes // 4) // row_bytes
        chunk_rows = min(max(1 << max(wanted.bit_length() - 1, 0), 16), 512)
        in_budget, in_array = self.shard_bytes // (chunk_rows * row_bytes), -(-self.rows // chunk_rows)
        enough = max(-(-in_array // SHARDS), SMALL_SHARD_BYTES // (chunk_rows * row_bytes))
        shard_rows = chunk_rows * max(1, min(in_budget, in_array, enough))
        return Layout(self.rows, self.row_shape, self.dtype, self.compress, chunk_rows, shard_rows)

    @property
    def chunk_rows(self) -> int:
        """Rows of a chunk."""
        return self.layout.chunk_rows

    @property
    def shard_rows(self) -> int:
        """Rows of a shard: whole chunks, no more than the array has."""
        return self.layout.shard_rows

    @property
    def float32_bytes(self) -> int:
        """Bytes of the same rows as plain float32."""
        return self.rows * math.prod(self.row_shape) * 4

    @property
    def predicted_bytes(self) -> int:
        """Bytes of shards and offsets when nothing is compressed; a few KiB of metadata are left out."""
        shards = sum(self.layout.plain_shard_bytes(shard) for shard in range(self.layout.shards))
        return shards + self.offsets.nbytes + CRC_BYTES
