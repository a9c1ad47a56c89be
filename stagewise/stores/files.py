"""The files below `store.zarr`: which there are, and the small arrays read past zarr-python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stagewise import atomic
from stagewise.stores.layout import CRC_BYTES
from stagewise.stores.quantise import Scaling
from stagewise.stores.shard import crc32c


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
        return "" if atomic.sha256_of(path) == digest else "its sha256 differs"
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
