"""What a run directory holds that its pipeline no longer uses, and how it goes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from stagewise import durable
from stagewise.errors import IntegrityError
from stagewise.runs.folder import RunFolder
from stagewise.runs.records import RECORD, read_record
from stagewise.text import counted, seconds_text


def unused(run: RunFolder) -> dict[Path, int]:
    """Return folders of stages and probes that `pipeline.lock.json` does not name, with their bytes."""
    locked = run.locked or {}
    used = {part["folder"] for kind in ("stages", "probes") for part in locked.get(kind, [])}
    used |= {probe.get("means") for probe in locked.get("probes", [])}
    found = {}
    for kind in ("stages", "probes"):
        for folder in sorted((run.path / kind).glob("*")):
            if folder.is_dir() and not folder.is_symlink() and folder.name not in used:
                found[folder] = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    return found


def last_of_their_stage(run: RunFolder, folders: Sequence[Path]) -> dict[str, Path]:
    """Return those of the folders that hold a finished stage which, as the pipeline is now, is not finished."""
    stages = (run.locked or {}).get("stages", [])
    missing = [stage["name"] for stage in stages if not (run.path / "stages" / stage["folder"] / RECORD).exists()]
    finished = {path.name.split("-", 1)[1].rpartition("-")[0]: path for path in folders if (path / RECORD).exists()}
    return {name: finished[name] for name in missing if name in finished}


def finished(run: RunFolder) -> str:
    """Name the stages of a run that are finished, whatever pipeline made them, and how long they took; "" for none."""
    records: list[dict[str, Any]] = []
    for folder in (run.path / "stages").glob("*"):
        with suppress(IntegrityError):  # it would have been made again
            records += filter(None, [read_record(folder, with_store=False)])
    names = ", ".join(dict.fromkeys(record["name"] for record in sorted(records, key=lambda r: r["index"])))
    seconds = seconds_text(sum(record["train"]["seconds"] for record in records))
    return f"{counted(len(records), 'finished stage')} ({names}): {seconds} of training" if records else ""


def delete(run: RunFolder, folders: list[Path]) -> None:
    """Delete folders, each so that a crash leaves it whole or gone.

    Raises:
        StagewiseError: another process is writing to the run.
    """
    with run.writing(), durable.disk_errors_below(run.path):
        for folder in sorted(unused(run).keys() & set(folders)):  # another process may use one of them by now
            durable.remove(folder)
            run.event("deleted", folder=f"{folder.parent.name}/{folder.name}")
