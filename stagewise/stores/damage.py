"""How damage is reported: which file, which rows and items, and what to type."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stagewise.errors import IntegrityError

STAGE_FOLDER = re.compile(r"[0-9]+-(.+)-[0-9a-f]{8}")  # as a run directory names the folder of a stage


def remedy(path: Path) -> str:
    """Say what to type about a damaged file of a store."""
    found = (STAGE_FOLDER.fullmatch(part) for part in reversed(path.parts))
    name = next((match[1] for match in found if match), "NAME")
    return f"Type `stagewise stage {name}` to encode it again; `stagewise verify` reads everything."


def damaged(path: Path, problem: str) -> IntegrityError:
    """Say that a file is not to be trusted."""
    return IntegrityError(f"{path} is damaged: {problem}. {remedy(path)}")


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
