"""Runs beside each other: the facts that `compare --json` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from stagewise.comparing.published import MEMORY_TASK, SYSTEMS, TASKS, System, task_of
from stagewise.comparing.rows import Compared, Row, place, read
from stagewise.comparing.spread import half_width
from stagewise.errors import IntegrityError
from stagewise.runs.folder import RunFolder

Found = list[tuple[Compared, dict[str, Any]]]  # runs with a result of one probe, and that result


def compare_runs(folders: Sequence[RunFolder]) -> dict[str, Any]:
    """Return runs beside each other as JSON-able facts; reads only, and never imports torch.

    Our accuracies are shares of one and our memory is in bytes; published figures are as they were printed, in
    percent and GB.

    Damaged runs are left out, and told under "damaged".

    Raises:
        IntegrityError: all runs are damaged.
    """
    runs, damaged = list[Compared](), list[str]()
    for folder in folders:
        try:
            runs.append(read(folder))
        except IntegrityError as error:
            damaged.append(str(error))
    if damaged and not runs:
        raise IntegrityError("\n".join(damaged))
    rows: list[Row] = []
    warnings = [text for run in runs if (text := place(run, rows))]
    probes = {probe: _found(runs, probe) for probe in dict.fromkeys(p for run in runs for p in run.tops)}
    probes = {probe: found for probe, found in probes.items() if found}
    for probe, found in probes.items():
        warnings.extend(_unlike(probe, found))
    named = list(zip(_names(rows), rows, strict=True))
    return {
        "format": 1,
        "columns": [_column(probe, found) for probe, found in probes.items()],
        "rows": [_row(name, row, list(probes)) for name, row in named],
        "runs": [
            {
                "name": name,
                "run": run.path,
                "seed": run.seed,
                "state": run.facts["state"],
                "data": run.data,
                "probes": list(run.asked["probe"]),
            }
            for name, row in named
            for run in row
        ],
        "warnings": warnings,
        "damaged": damaged,
    }


def _found(runs: Sequence[Compared], probe: str) -> Found:
    return [(run, result) for run in runs if (result := run.result(probe))]


def _names(rows: Sequence[Row]) -> list[str]:
    """Name each row as tables show it; rows of one system by the places of their first runs, too."""
    places: dict[str, list[tuple[str, ...]]] = {}
    for row in rows:
        places.setdefault(row[0].system, []).append(Path(row[0].path).resolve().parts)
    apart = {system: iter(_apart(paths)) for system, paths in places.items()}
    names = []
    for system in (row[0].system for row in rows):
        name = SYSTEMS[system].name if system in SYSTEMS else system
        place = next(apart[system]) if len(places[system]) > 1 else name
        names.append(name if place == name else f"{name} ({place})")
    return names


def _apart(paths: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield of each path as many of its last parts as tell it from the others, without those at which all end."""
    while len({parts[-1] for parts in paths}) == 1 and min(map(len, paths)) > 1:
        paths = [parts[:-1] for parts in paths]
    paths = [parts[1:] or parts for parts in paths]  # without the root
    for own in paths:
        alone = (n for n in range(1, len(own)) if sum(parts[-n:] == own[-n:] for parts in paths) == 1)
        yield "/".join(own[-next(alone, len(own)) :])


def _column(probe: str, found: Found) -> dict[str, Any]:
    labels = found[0][1]["labels"]
    task = task_of(labels)
    return {
        "probe": probe,
        "labels": labels,
        "task": task,
        "metric": found[0][1]["metric"],
        "as_published": task is not None and all(_as_published(task, probe, *each) for each in found),
    }


def _as_published(task: str, probe: str, run: Compared, result: dict[str, Any]) -> bool:
    """Whether a probe was tested on the data set, and on as many items of it, as the published figures."""
    data = run.asked["probe"][probe]["data"] or run.asked["data"]
    return (data["target"], result["test_items"]) == (TASKS[task].data, TASKS[task].test_items)


def _unlike(probe: str, found: Found) -> Iterator[str]:
    """Yield what makes the numbers of one column hard to compare."""
    data = {run.path: run.asked["probe"][probe]["data"] or run.data for run, _ in found}
    for what, values in {
        "data sets": data,
        "labels": {run.path: result["labels"] for run, result in found},
        "numbers of classes": {run.path: result["classes"] for run, result in found},
        "numbers of training items": {run.path: result["train_items"] for run, result in found},
        "numbers of test items": {run.path: result["test_items"] for run, result in found},
        "numbers of hidden units": {run.path: result["hidden"] or 0 for run, result in found},
    }.items():
        paths: dict[str, list[str]] = {}
        for path, value in values.items():
            paths.setdefault(str(value), []).append(path)
        if len(paths) > 1:
            parts = "; ".join(f"{value} in {', '.join(some)}" for value, some in paths.items())
            yield f"probe {probe}: its runs have different {what}, compare them with care: {parts}."


def _row(name: str, row: Row, probes: Sequence[str]) -> dict[str, Any]:
    first = row[0]
    known = SYSTEMS.get(first.system, System(name, {}))
    published: dict[str, Any] = {task: figure._asdict() for task, figure in known.accuracy.items()}
    if known.memory_gb and MEMORY_TASK in {task_of(probe["labels"]) for probe in first.asked["probe"].values()}:
        published["memory_gb"] = known.memory_gb
    return {
        "system": first.system,
        "name": name,
        "run": first.path,
        "runs": [run.path for run in row],
        "published": published,
        "measured": {probe: _measured(probe, found) for probe in probes if (found := _found(row, probe))},
        "stages": {probe: list(_depths(probe, row)) for probe in probes},
        "losses": list(_losses(row)),
        "memory": _memory(row),
    }


def _measured(probe: str, found: Found) -> dict[str, Any]:
    values = [result["value"] for _, result in found]
    mean, interval = fmean(values), found[0][1]["interval"]
    if len(values) > 1:
        half = half_width(values)
        interval = [max(0.0, mean - half), min(1.0, mean + half)]
    return {
        "value": mean,
        "interval": interval,
        "seeds": [run.seed for run, _ in found],
        "stage": found[0][0].tops[probe],
        "chance": fmean(result["majority"] for _, result in found),
        "random": fmean(r["random"]["value"] for _, r in found) if all(r["random"] for _, r in found) else None,
    }


def _depths(probe: str, row: Row) -> Iterator[dict[str, Any]]:
    """Yield a probe's accuracy on every stage that it has read, lowest first."""
    for stage in (stage["name"] for stage in row[0].facts["stages"]):
        found = [p for run in row for p in run.facts["probes"] if (p["name"], p["stage"]) == (probe, stage)]
        if values := [result["value"] for result in found]:
            random = fmean(p["random"]["value"] for p in found) if all(p["random"] for p in found) else None
            yield {"stage": stage, "value": fmean(values), "random": random, "seeds": len(values)}


def _losses(row: Row) -> Iterator[dict[str, Any]]:
    """Yield the final loss of every finished stage: on the validation items, or without any on those of training."""
    for stages in zip(*(run.facts["stages"] for run in row), strict=True):
        trains = [stage["train"] for stage in stages if stage["state"] == "complete"]
        if values := [train["validation_loss"] for train in trains if train["validation_loss"] is not None]:
            yield {
                "stage": stages[0]["name"],
                "loss": fmean(values),
                "spread": half_width(values) if len(values) > 1 else None,
                "items": "training" if trains[0]["initial_loss"] is None else "validation",
                "seeds": len(values),
            }


def _memory(row: Row) -> dict[str, Any]:
    """Return the peak of the stage that needs most, over all seeds."""

    def peak(stage: dict[str, Any]) -> int:
        return int(stage["memory"]["measured_peak_bytes"] or stage["memory"]["predicted_peak_bytes"])

    largest = max((stage for run in row for stage in run.facts["stages"]), key=peak)
    return {
        "stage": largest["name"],
        "predicted_peak_bytes": largest["memory"]["predicted_peak_bytes"],
        "measured_peak_bytes": largest["memory"]["measured_peak_bytes"],
        "end_to_end": {"predicted_peak_bytes": max(run.facts["end_to_end"]["predicted_peak_bytes"] for run in row)},
    }
