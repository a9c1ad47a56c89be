"""What a store should hold: the hash of every file of it, what is damaged, and how it is verified."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stagewise import durable
from stagewise.errors import IntegrityError
from stagewise.stores.layout import (
    COMPRESS,
    FILL,
    FORMAT,
    MANIFEST,
    STORE,
    Layout,
    file_problem,
    list_files,
    read_offsets,
    read_scaling,
    small_files,
)

# How damage is reported: which file, which rows and items, and what to type.

STAGE_FOLDER = re.compile(r"[0-9]+-(.+)-[0-9a-f]{8}")  # as a run directory names the folder of a stage


def advice(path: Path) -> str:
    """Say what to type about a damaged file of a store."""
    found = (STAGE_FOLDER.fullmatch(part) for part in reversed(path.parts))
    name = next((match[1] for match in found if match), "NAME")
    return f"Type `stagewise stage {name}` to encode it again; `stagewise verify` reads everything."


def damaged(path: Path, problem: str) -> IntegrityError:
    """Say that a file is not to be trusted."""
    return IntegrityError(f"{path} is damaged: {problem}. {advice(path)}")


def damaged_rows(path: Path, problem: str, rows: range, offsets: npt.NDArray[np.int64] | None) -> IntegrityError:
    """Say that rows of a shard's file are not to be trusted; without offsets their items are not known."""
    return damaged(path, f"{problem}, so {describe_rows(rows, offsets)} cannot be used")


def describe_rows(rows: range, offsets: npt.NDArray[np.int64] | None) -> str:
    """Name rows and the items they belong to, both ends included."""
    text = f"rows {rows.start}–{rows.stop - 1}"
    if offsets is None:
        return text
    first, last = (int(np.searchsorted(offsets, row, side="right")) - 1 for row in (rows.start, rows.stop - 1))
    return f"{text} (items {first}–{last})"


# The manifest: what a finished store consists of; it is written last, so that it commits the store.

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
    durable.write_json(folder / MANIFEST, {"format": FORMAT, **asdict(manifest)})


def read_manifest(folder: Path) -> Manifest:
    """Read what the store of a stage's folder consists of.

    What it gives is checked: no path leaves the store, no count asks for absurd memory.

    Raises:
        IntegrityError: the store was never finished, or its manifest is damaged.
    """
    path = folder / MANIFEST
    content = durable.read_json(path, advice(path))
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


# Verifying a store: every byte of every file is read and hashed again, and all problems are told at once.


def verify_store(folder: Path, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """Compare every byte of the store of a stage's folder with its manifest; change nothing.

    Args:
        folder: of the stage.
        progress: called with the bytes read so far and the bytes of all files, after each file.

    Returns:
        One sentence for each problem: path, items where they are known, what to type. None when all is well.
    """
    try:
        manifest = read_manifest(folder)
    except IntegrityError as error:
        return [str(error)]
    store = folder / STORE
    sizes = list_files(store)
    digests = {**manifest.files, **{shard.path: shard.sha256 for shard in manifest.shards}}
    problems, done = {}, 0
    for name, digest in digests.items():
        problem = file_problem(store / name, digest, sizes.get(name))
        if problem:
            problems[name] = problem
        done += sizes.get(name, 0)
        if progress is not None:
            progress(done, manifest.bytes)
    strangers = [
        f"{store / name} is not part of the store. Delete it, then type `stagewise verify` again."
        for name in sorted(sizes.keys() - digests.keys())
    ]
    return _sentences(store, manifest, problems) + strangers


def _sentences(store: Path, manifest: Manifest, problems: dict[str, str]) -> list[str]:
    sentences = [str(damaged(store / name, problems[name])) for name in manifest.files if name in problems]
    offsets = None  # as long as it is not known which items a shard holds
    try:
        offsets = read_offsets(store, manifest.items, manifest.rows)
        if manifest.dtype == "int8":
            read_scaling(store, manifest.row_shape[-1])
    except (ValueError, OSError) as error:
        if not sentences:  # the files are as the manifest has them: it is the manifest that cannot be true
            sentences = [str(damaged(store, str(error)))]
    for shard in manifest.shards:
        if shard.path in problems:
            rows = range(shard.first_row, shard.first_row + shard.rows)
            sentences.append(str(damaged_rows(store / shard.path, problems[shard.path], rows, offsets)))
    return sentences
