"""The manifest: what a finished store consists of; it is written last, so that it commits the store."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from stagewise import atomic
from stagewise.stores.damage import damaged, remedy
from stagewise.stores.files import small_files
from stagewise.stores.layout import COMPRESS, FILL, FORMAT, MANIFEST, Layout

MOST_CHUNK_BYTES = 1 << 30  # a manifest that asks for more is not ours


@dataclass(frozen=True)
class Shard:
    """One shard's file: its path below `store.zarr`, the rows it holds, and its bytes."""

    path: str
    first_row: int
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a finished store consists of.

    Attributes:
        bytes: of all files of `store.zarr`.
        float32_bytes: the same rows as plain float32.
        saturated: values outside the range of their channel, cut to its end (int8 only).
        shards: the files of `z`, in the order of their rows.
        files: sha256 of every other file, by its path below `store.zarr`.
    """

    fingerprint: str
    rows: int
    items: int
    dtype: str
    compress: str
    row_shape: tuple[int, ...]
    chunk_rows: int
    shard_rows: int
    bytes: int
    float32_bytes: int
    saturated: int
    shards: tuple[Shard, ...]
    files: dict[str, str]

    @cached_property
    def layout(self) -> Layout:
        """Where the rows lie."""
        return Layout(self.rows, self.row_shape, self.dtype, self.compress, self.chunk_rows, self.shard_rows)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Commit the store of a stage's folder.

    Raises:
        DiskError: the disk is full, read-only or failing.
    """
    atomic.write_json(folder / MANIFEST, {"format": FORMAT, **asdict(manifest)})


def read_manifest(folder: Path) -> Manifest:
    """Read what the store of a stage's folder consists of.

    What it gives is checked: no path leaves the store, no count asks for absurd memory.

    Raises:
        IntegrityError: the store was never finished, or its manifest is damaged.
    """
    path = folder / MANIFEST
    content = atomic.read_json(path, remedy(path))
    try:
        return _parse(content)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from None


def _parse(content: Any) -> Manifest:
    content = dict(content)
    written = content.pop("format")
    plain = written == 1 and content["compress"] == "none"  # nothing else has changed since
    _demand(written == FORMAT or plain, f"its format is {written!r}, of another version, and not {FORMAT}")
    shards = tuple(Shard(**shard) for shard in content.pop("shards"))
    manifest = Manifest(**{**content, "row_shape": tuple(content["row_shape"])}, shards=shards)
    numbers = [getattr(manifest, name) for name in ("rows", "items", "bytes", "float32_bytes", "saturated")]
    positive = [*manifest.row_shape, manifest.chunk_rows, manifest.shard_rows]
    _demand(all(type(n) is int and n >= 0 for n in numbers + positive), "a count is not a number")
    _demand(bool(manifest.row_shape) and min(positive) > 0, "a row or a chunk is empty")
    _demand(isinstance(manifest.fingerprint, str), "the fingerprint is not text")
    _demand(manifest.dtype in FILL and manifest.compress in COMPRESS, "unknown dtype or compress")

    layout = manifest.layout
    _demand(layout.chunk_bytes <= MOST_CHUNK_BYTES, "a chunk is absurdly large")
    _demand(layout.shard_rows % layout.chunk_rows == 0, "a shard is not whole chunks")
    _demand(len(shards) == layout.shards, f"{layout.shards} shards are needed, {len(shards)} listed")
    for number, shard in enumerate(shards):
        span = layout.shard_span(number)
        # The only path a shard can have: whatever else is written there (`..`, absolute) is refused unread.
        _demand(shard.path == layout.shard_path(number), f"shard {number} is not at {shard.path!r}")
        _demand((shard.first_row, shard.rows) == (span.start, len(span)), f"shard {number} has other rows")
        _demand(type(shard.bytes) is int and shard.bytes > layout.index_bytes, f"shard {number} has no bytes")
        plain = layout.compress == "zstd" or shard.bytes == layout.plain_shard_bytes(number)
        _demand(plain, f"shard {number} cannot have {shard.bytes} bytes")
    _demand(set(manifest.files) == small_files(manifest.dtype), "it lists other files than a store has")
    digests = [*manifest.files.values(), *(shard.sha256 for shard in shards)]
    _demand(all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests), "a sha256 is not one")
    return manifest


def _demand(holds: bool, problem: str) -> None:
    if not holds:
        raise ValueError(problem)
