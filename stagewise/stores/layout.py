"""How rows lie in a store: arrays, chunks and shards, their files, and numbers kept in eight bits."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs.zstd import Zstd

from stagewise import durable
from stagewise.errors import NumberError

# Where every row of a store lies on disk: chunks of rows, shards of chunks, one file a shard.

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


# Eight bits a value: per-channel scale and offset under which zero stays exactly zero.
#
# A dequantised value is q * scale + offset, q an integer from -127 to 127. The scale is rounded up to 17
# significant bits: q * scale is then exact in float32, so that the value does not depend on whether a device
# fuses multiply and add.
#
# Shapes: C channels (the last axis of x and q).

FloatArray = npt.NDArray[np.float32]
Int8Array = npt.NDArray[np.int8]

LIMIT = 127
SCALE_BITS = 17
SMALLEST = float(np.finfo(np.float32).tiny)  # scale of a constant channel: anything but its constant saturates


@dataclass(frozen=True, eq=False)
class Scaling:
    """Scale and offset of every channel, float32 (C,)."""

    scale_C: FloatArray  # noqa: N815
    offset_C: FloatArray  # noqa: N815

    @classmethod
    def fit(cls, min_C: npt.NDArray[Any], max_C: npt.NDArray[Any]) -> Scaling:
        """Cover [min, max] of every channel; a constant channel and a zero within the range are kept exactly.

        Raises:
            NumberError: a range is not finite.
        """
        low_C, high_C = np.asarray(min_C, np.float64), np.asarray(max_C, np.float64)
        bad_C = ~(np.isfinite(low_C) & np.isfinite(high_C))
        if bad_C.any():
            channel = int(bad_C.argmax())
            raise NumberError(
                f"channel {channel} ranges from {low_C[channel]} to {high_C[channel]} and cannot be stored: "
                "the frozen encoder gives NaN or infinity. Lower lr in its [[stage]], then type "
                "`stagewise stage NAME`."
            )
        middle_C = (low_C + (high_C - low_C) / 2).astype(np.float32)
        reach_C = np.maximum(high_C - middle_C, middle_C - low_C)  # float32 may have moved the middle
        has_zero_C = (low_C <= 0) & (high_C >= 0)
        # Moving the grid so that zero lies on it costs at most half a step at either end: that half is spare.
        scale_C = _round_up(reach_C / np.where(has_zero_C, LIMIT - 0.5, LIMIT))
        offset_C = np.where(has_zero_C, np.rint(middle_C / scale_C) * scale_C, middle_C)
        return cls(scale_C.astype(np.float32), offset_C.astype(np.float32))

    def quantise(self, x: FloatArray, out: Int8Array | None = None) -> tuple[Int8Array, int]:
        """Give the nearest q of every value, and how many lay outside the range and were cut to its end.

        Args:
            x: finite values (..., C).
            out: where to write q, of the shape of x; a new array when left out.
        """
        out = np.empty(x.shape, np.int8) if out is None else out
        with np.errstate(over="ignore"):  # what overflows here lies outside the range and is cut to its end
            steps = np.subtract(x, self.offset_C)
            np.multiply(steps, 1 / self.scale_C, out=steps)
        np.rint(steps, out=steps)
        saturated = 0
        if steps.size and (steps.max() > LIMIT or steps.min() < -LIMIT):
            saturated = int(np.count_nonzero(np.abs(steps) > LIMIT))
            np.clip(steps, -LIMIT, LIMIT, out=steps)
        np.copyto(out, steps, casting="unsafe")
        return out, saturated

    def dequantise(self, q: Int8Array) -> FloatArray:
        """Give the float32 values that q (..., C) stands for."""
        x = q.astype(np.float32)
        x *= self.scale_C
        x += self.offset_C
        return x


def _round_up(scale_C: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    mantissa_C, exponent_C = np.frexp(np.maximum(scale_C, SMALLEST))
    rounded_C: npt.NDArray[np.float64] = np.ldexp(np.ceil(np.ldexp(mantissa_C, SCALE_BITS)), exponent_C - SCALE_BITS)
    return rounded_C


# One shard's bytes as the Zarr v3 sharding specification has them: chunks, their index, its CRC32C.
#
# Every chunk ends with the CRC32C of the bytes before it, so that a flipped bit anywhere in the file is found.
# Problems are ValueErrors in a few words; who knows the path and the items says the rest.

MISSING = 2**64 - 1  # offset and length of a chunk that lies outside the array
ByteArray = npt.NDArray[np.uint8]
IndexArray = npt.NDArray[np.uint64]  # (chunks in the shard, 2): offset and length of each chunk, bytes


def encode_shard(rows: npt.NDArray[Any], layout: Layout) -> Iterator[bytes | memoryview]:
    """Give the blocks of a shard's file one after another, without a second copy of the rows.

    Args:
        rows: whole chunks (n * chunk_rows, *row_shape) in the stored dtype, C-contiguous.
        layout: of the store.
    """
    index = np.full((layout.chunks_per_shard, 2), MISSING, "<u8")
    position = 0
    for number, first in enumerate(range(0, len(rows), layout.chunk_rows)):
        chunk = rows[first : first + layout.chunk_rows].reshape(-1).view(np.uint8)
        block = _zstd(chunk, layout) if layout.compress == "zstd" else chunk
        index[number] = position, len(block) + CRC_BYTES
        position += len(block) + CRC_BYTES
        yield block.data
        yield crc32c(block)
    yield index.tobytes()
    yield crc32c(index.tobytes())


def decode_index(tail: ByteArray, layout: Layout, shard: int, file_bytes: int) -> IndexArray:
    """Read a shard's index from the end of its file and check that it can be true.

    Raises:
        ValueError: the index is not what was written.
    """
    if bytes(tail[-CRC_BYTES:]) != crc32c(tail[:-CRC_BYTES]):
        raise ValueError("the CRC32C of the shard's index does not match")
    index = tail[:-CRC_BYTES].view("<u8").reshape(-1, 2)
    held = index[: layout.chunks_in(shard)].astype(np.int64)
    ends = np.cumsum(held[:, 1])
    sound = (held[:, 1] > CRC_BYTES).all() and (held[:, 0] == ends - held[:, 1]).all()
    plain = layout.compress == "zstd" or (held[:, 1] == layout.chunk_bytes + CRC_BYTES).all()
    if not (sound and plain and ends[-1] + layout.index_bytes == file_bytes):
        raise ValueError("the shard's index does not fit its file")
    return index


def decode_chunk(block: ByteArray, layout: Layout) -> npt.NDArray[Any]:
    """Check a chunk's CRC32C and give its rows (chunk_rows, *row_shape) in the stored dtype.

    Raises:
        ValueError: the bytes are not what was written.
    """
    body = block[:-CRC_BYTES]
    if bytes(block[-CRC_BYTES:]) != crc32c(body):
        raise ValueError("the CRC32C of a chunk does not match")
    if layout.compress == "none":
        return body.view(layout.dtype).reshape(layout.chunk_rows, *layout.row_shape)
    columns = _unzstd(body, layout.chunk_bytes).view(layout.dtype).reshape(*layout.row_shape, layout.chunk_rows)
    axes = range(columns.ndim)
    return columns.transpose(axes[-1], *axes[:-1])  # not copied: of most chunks only some rows are wanted


def crc32c(block: ByteArray | bytes) -> bytes:
    """Give the CRC32C of some bytes as it is stored: four bytes, little endian."""
    checksum: int = google_crc32c.value(block)
    return checksum.to_bytes(CRC_BYTES, "little")


def _zstd(chunk: ByteArray, layout: Layout) -> ByteArray:
    """Compress channel by channel: each has a distribution of its own, and that is worth a tenth to a third."""
    rows = chunk.view(layout.dtype).reshape(layout.chunk_rows, *layout.row_shape)
    return np.frombuffer(Zstd(level=1).encode(np.ascontiguousarray(np.moveaxis(rows, 0, -1))), np.uint8)


def _unzstd(block: ByteArray, chunk_bytes: int) -> ByteArray:
    chunk = np.empty(chunk_bytes, np.uint8)
    try:
        Zstd().decode(block, chunk)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"a chunk cannot be decompressed ({error})") from None
    return chunk


# The files below `store.zarr`: which there are, and the small arrays read past zarr-python.


def list_files(store: Path) -> dict[str, int]:
    """Give path and bytes of every regular file below `store.zarr`; nothing behind a symlink is seen."""
    found: dict[str, int] = {}
    pending = [] if store.is_symlink() or not store.is_dir() else [store]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    pending.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    found[Path(entry.path).relative_to(store).as_posix()] = entry.stat().st_size
    return found


def file_problem(path: Path, digest: str, size: int | None) -> str:
    """Hash a file that `list_files` found (size None when it did not) and say what is wrong, if anything."""
    if size is None:
        return "the file is missing"
    try:
        return "" if durable.sha256_of(path) == digest else "its sha256 differs"
    except OSError as error:
        return f"the file cannot be read ({error.strerror})"


def read_offsets(store: Path, items: int, rows: int) -> npt.NDArray[np.int64]:
    """Read the first row of each item and, last, the number of rows.

    Raises:
        ValueError: they are not what was written, or cannot be true.
    """
    offsets: npt.NDArray[np.int64] = _read_small(store / "offsets/c/0", "<i8", items + 1)
    if offsets[0] != 0 or offsets[-1] != rows or (np.diff(offsets) < 0).any():
        raise ValueError(f"offsets do not rise from 0 to {rows}")
    return offsets


def read_scaling(store: Path, channels: int) -> Scaling:
    """Read scale and offset of every channel of an int8 store.

    Raises:
        ValueError: they are not what was written, or cannot be true.
    """
    scale_C = _read_small(store / "scale/c/0", "<f4", channels)
    offset_C = _read_small(store / "offset/c/0", "<f4", channels)
    if not (np.isfinite(scale_C).all() and np.isfinite(offset_C).all() and (scale_C > 0).all()):
        raise ValueError("scale or offset is not a usable number")
    return Scaling(scale_C, offset_C)


def _read_small(path: Path, dtype: str, count: int) -> npt.NDArray[Any]:
    expected = count * np.dtype(dtype).itemsize + CRC_BYTES
    if path.stat().st_size != expected:
        raise ValueError(f"{path} does not have {expected} bytes")
    content = path.read_bytes()
    if content[-CRC_BYTES:] != crc32c(content[:-CRC_BYTES]):
        raise ValueError(f"the CRC32C of {path} does not match")
    return np.frombuffer(content, dtype, count)


def small_files(dtype: str) -> set[str]:
    """Paths of every file of a store that is not a shard."""
    arrays = ["offsets", *(["scale", "offset"] if dtype == "int8" else [])]
    return {"zarr.json", "z/zarr.json", *(f"{a}/zarr.json" for a in arrays), *(f"{a}/c/0" for a in arrays)}
