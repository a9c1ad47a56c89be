"""data.json: which data a run was made of, and which files were left out of it; it holds no absolute path."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from stagewise import atomic
from stagewise.datasets.base import BadItem, Dataset
from stagewise.errors import IntegrityError
from stagewise.runs.folder import RunFolder
from stagewise.runs.shape import DataFacts, checked

DATA = "data.json"
REMEDY = "Delete it and type `stagewise run FILE` to write it again."


def write_data(run: RunFolder, dataset: Dataset, labels: list[dict[str, Any]], others: Sequence[BadItem] = ()) -> bool:
    """Write what a run's data is, and what is known of its labels; return whether that was not there already.

    Args:
        run: the run directory.
        dataset: of the pipeline.
        labels: what is known of them.
        others: files that were left out of the data of probes.

    Raises:
        DiskError: the disk is full, read-only or failing.
    """
    content = {
        "format": 1,
        "fingerprint": dataset.fingerprint(),
        "items": len(dataset),
        "samples": int(dataset.lengths.sum()),
        "labels": labels,
        "skipped": [{"key": item.key, "reason": item.reason} for item in [*dataset.bad, *others]],
    }
    with suppress(IntegrityError):  # what is damaged is written again
        if read_data(run) == content:
            return False
    atomic.write_sealed(run.path / DATA, content)
    return True


def read_data(run: RunFolder) -> dict[str, Any] | None:
    """Return what `write_data` wrote, None if nothing was.

    Raises:
        IntegrityError: it is not what was written.
    """
    path = run.path / DATA
    return checked(DataFacts, atomic.read_sealed(path, REMEDY), path, REMEDY) if path.exists() else None
