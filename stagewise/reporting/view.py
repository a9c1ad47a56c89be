"""What a report knows of one run: its facts, its data and its loss curves, read without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagewise import atomic
from stagewise.runs.facts import run_facts
from stagewise.runs.folder import RunFolder


@dataclass(frozen=True)
class View:
    """One run as a report shows it.

    Attributes:
        name: what the report calls it; no other run of the report is called so.
        folder: the run directory.
        facts: what `stagewise inspect --json` prints.
        data: the pipeline's data table.
        curves: one record per epoch, of every finished stage by name.
    """

    name: str
    folder: RunFolder
    facts: dict[str, Any]
    data: dict[str, Any]
    curves: dict[str, list[dict[str, Any]]]


def read_views(runs: Sequence[RunFolder]) -> list[View]:
    """Read runs; finished parts of unfinished ones, too.

    Raises:
        IntegrityError: a record is damaged.
    """
    last = [run.path.resolve().name for run in runs]
    names = [name if last.count(name) == 1 else str(run.path) for name, run in zip(last, runs, strict=True)]
    return [_view(name, run) for name, run in zip(names, runs, strict=True)]


def _view(name: str, run: RunFolder) -> View:
    locked, facts = run.locked, run_facts(run)
    assert locked is not None
    folder: Path = run.path / "stages"
    curves = {
        stage["name"]: atomic.read_lines(folder / stage["folder"] / "metrics.jsonl")
        for stage in facts["stages"]
        if stage["state"] == "complete"
    }
    return View(name, run, facts, locked["pipeline"]["data"], curves)
