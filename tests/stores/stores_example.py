"""Three shards of an example store, written whole or in part, and a disk that fails when told to."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from stagewise.stores import Scaling, StoreSpec, StoreWriter

LENGTHS = np.array([20, 0, 30, 45])
ROWS = np.linspace(-3, 5, 95 * 4, dtype=np.float32).reshape(95, 4)
UNIT = Scaling.fit(ROWS.min(0), ROWS.max(0))


def spec(dtype="float32", compress="none"):
    """16 rows a chunk, 32 a shard: three shards."""
    return StoreSpec(LENGTHS, (4,), dtype, compress, 32 * 4 * np.dtype(dtype).itemsize)


def write_all(folder, dtype="float32", fingerprint="a"):
    with StoreWriter(folder, spec(dtype), fingerprint, UNIT if dtype == "int8" else None) as writer:
        writer.append(ROWS[writer.rows_done :])
        return writer.commit()


def write_some(folder, rows, dtype="float32", fingerprint="a"):
    """A writer that is stopped before it has all rows."""
    with StoreWriter(folder, spec(dtype), fingerprint, UNIT if dtype == "int8" else None) as writer:
        writer.append(ROWS[:rows])


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


class Killed(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches SIGKILL."""


def break_disk(monkeypatch, nth, failure):
    """Fail the nth fsync or rename; when that is a kill, nothing after it is done any more."""
    count = 0

    def wrap(operation, counts):
        def operate(*args, **kwargs):
            nonlocal count
            count += counts
            if (count == nth and counts) or (count > nth and failure is Killed):
                raise failure() if failure is Killed else OSError(failure, os.strerror(failure))
            return operation(*args, **kwargs)

        return operate

    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, wrap(getattr(os, name), True))
    monkeypatch.setattr(os, "unlink", wrap(os.unlink, False))
    return lambda: count
