"""How damage is reported: which file, which rows and items, and what to type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from stagewise.errors import IntegrityError

REMEDY = "Type `stagewise verify`, then `stagewise stage NAME` to encode it again."


def damaged(path: Path, problem: str) -> IntegrityError:
    """Say that a file is not to be trusted."""
    return IntegrityError(f"{path} is damaged: {problem}. {REMEDY}")


def damaged_rows(
    path: Path, problem: str, rows: range, offsets: npt.NDArray[np.int64] | None
) -> IntegrityError:
    """Say that rows of a shard's file are not to be trusted; without offsets their items are not known."""
    return damaged(path, f"{problem}, so {describe_rows(rows, offsets)} cannot be used")


def describe_rows(rows: range, offsets: npt.NDArray[np.int64] | None) -> str:
    """Name rows and the items they belong to, both ends included."""
    text = f"rows {rows.start}–{rows.stop - 1}"
    if offsets is None:
        return text
    first, last = (
        int(np.searchsorted(offsets, row, side="right")) - 1 for row in (rows.start, rows.stop - 1)
    )
    return f"{text} (items {first}–{last})"
