"""One shard's bytes as the Zarr v3 sharding specification has them: chunks, their index, its CRC32C.

Every chunk ends with the CRC32C of the bytes before it, so that a flipped bit anywhere in the file is found.
Problems are ValueErrors in a few words; who knows the path and the items says the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from numcodecs.zstd import Zstd

from stagewise.stores.layout import CRC_BYTES, Layout

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
