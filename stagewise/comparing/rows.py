"""Read the runs, and put those of one system that differ in nothing but their seeds into one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stagewise import atomic
from stagewise.config.fingerprint import differences
from stagewise.errors import IntegrityError
from stagewise.runs.facts import run_facts
from stagewise.runs.folder import RunFolder
from stagewise.runs.record import RECORD, REMEDY


@dataclass(frozen=True)
class Compared:
    """One of the runs.

    Attributes:
        facts: as `inspect --json` prints them.
        seed: of its pipeline.
        asked: what decides its results, but for the seed and the place where its data lies.
        data: its data set in words: target and fingerprint.
        tops: the topmost stage that each of its probes reads, by the probe's name.
    """

    facts: dict[str, Any]
    seed: int
    asked: dict[str, Any]
    data: str
    tops: dict[str, str]

    @property
    def path(self) -> str:
        """Its run directory."""
        return str(self.facts["run"])

    @property
    def system(self) -> str:
        """Which system of the comparison it is."""
        return str(self.facts["system"])

    def result(self, probe: str) -> dict[str, Any] | None:
        """Return a probe's result on the topmost stage it reads, None if it is not there."""
        found = (p for p in self.facts["probes"] if (p["name"], p["stage"]) == (probe, self.tops.get(probe)))
        return next(found, None)


Row = list[Compared]


def read(folder: RunFolder) -> Compared:
    """Read one run; its records are checked.

    Raises:
        IntegrityError: a record is damaged.
    """
    facts, locked = run_facts(folder), folder.locked
    assert locked is not None
    pipeline = locked["pipeline"]
    asked = {
        "schedule": facts["schedule"],
        "data": without_root(pipeline["data"]),
        "stage": {stage["name"]: stage for stage in pipeline["stage"]},
        "probe": {
            probe["name"]: probe | {"data": probe["data"] and without_root(probe["data"])}
            for probe in pipeline["probe"]
        },
    }
    data = f"{pipeline['data']['target']} {_data_fingerprint(folder, facts['stages'][0])[:8]}".strip()
    tops = {probe["name"]: probe["stage"] for probe in locked.get("probes", [])}  # listed from the lowest stage up
    return Compared(facts, pipeline["pipeline"]["seed"], asked, data, tops)


def without_root(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a data table without the folder: the same data set may lie elsewhere on another machine."""
    return {key: value for key, value in data.items() if key != "root"}


def place(run: Compared, rows: list[Row]) -> str | None:
    """Put a run into the row of its system, or into a row of its own; say why if that is unexpected."""
    same = [row for row in rows if row[0].system == run.system]
    for row in same:
        if row[0].asked == run.asked and run.seed not in [other.seed for other in row]:
            row.append(run)
            return None
    rows.append([run])
    if not same:
        return None
    changes, nearest = min(
        ((list(differences(row[0].asked, run.asked)), row[0]) for row in same), key=lambda found: len(found[0])
    )
    if changes:
        more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
        why = f"it differs from {nearest.path} in more than its seed ({'; '.join(changes[:3])}{more})"
    else:
        why = f"its seed is {run.seed}, like that of {nearest.path}"
    return (
        f"{run.path} is a row of its own: {why}. To name systems apart, type `stagewise run FILE` again with "
        "`--set pipeline.system=NAME`: nothing is trained anew."
    )


def _data_fingerprint(folder: RunFolder, first: dict[str, Any]) -> str:
    if first["state"] != "complete":
        return ""
    path = folder.path / "stages" / first["folder"] / RECORD
    try:
        return str(atomic.read_sealed(path, REMEDY)["identity"]["train"]["below"])
    except (KeyError, TypeError):
        raise IntegrityError(f"{path} is damaged (it does not say what the stage was trained on). {REMEDY}") from None
