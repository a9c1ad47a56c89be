"""Read every byte of a run again: its data's record, items, weights, metrics, stores, probes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from stagewise.errors import IntegrityError
from stagewise.runs.data_record import DATA, read_data
from stagewise.runs.folder import RunFolder
from stagewise.runs.item_means import FACTS, means_problem
from stagewise.runs.items import read_items
from stagewise.runs.probe_record import PREDICTIONS, RESULT, probe_problems
from stagewise.runs.record import read_record
from stagewise.stores import verify_store
from stagewise.stores.layout import STORE


def verify_run(run: RunFolder, report: Callable[..., None]) -> tuple[list[str], int]:
    """Return what is wrong, each with its path and what to type, and how many files were read."""
    problems: list[str] = []
    files = 1
    try:
        locked = run.locked or {}
    except IntegrityError as error:
        return [str(error)], files
    try:
        files += (run.path / DATA).exists()
        read_data(run)
    except IntegrityError as error:
        problems.append(str(error))
    try:
        files += read_items(run) is not None
    except IntegrityError as error:
        problems.append(str(error))
    for stage in locked["stages"]:
        folder = run.path / "stages" / str(stage["folder"])
        try:
            record = read_record(folder)
        except IntegrityError as error:
            problems.append(str(error))
            continue
        if record is None:
            continue
        files += 1 + len(record["files"])
        if record["store"]["state"] == "written":
            name = stage["name"]
            problems += verify_store(folder, partial(_report, report, name))
            files += sum(1 for path in (folder / STORE).rglob("*") if path.is_file())
    for probe in locked.get("probes", []):
        folder = run.path / "probes" / probe["folder"]
        if (folder / RESULT).exists():
            files += 2 + (folder / PREDICTIONS).exists()
            problems += probe_problems(folder, probe["name"])
    for means in dict.fromkeys(probe["means"] for probe in locked.get("probes", []) if probe.get("means")):
        folder = run.path / "probes" / means
        files += 2 * (folder / FACTS).exists()
        problems += filter(None, [means_problem(folder)])
    return problems, files


def _report(report: Callable[..., None], stage: str, done: int, of: int) -> None:
    report("verify", stage=stage, bytes=done, of=of)
