"""Runs side by side, beside what was published."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from stagewise import durable
from stagewise.errors import IntegrityError
from stagewise.pipeline.identity import differences
from stagewise.results.published import MEMORY_SOURCE, MEMORY_TASK, SYSTEMS, TASKS, System, task_of
from stagewise.runs.facts import run_facts, student
from stagewise.runs.folder import RunFolder
from stagewise.runs.records import ADVICE, RECORD
from stagewise.text import bytes_text

# How far a mean over a few seeds may be off.


def half_width(values: Sequence[float]) -> float:
    """Return half the width of the 95 % interval of the mean of at least two values (Student, 1908)."""
    return student(len(values) - 1) * stdev(values) / math.sqrt(len(values))


# Read the runs, and put those of one system that differ in nothing but their seeds into one row.


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


def _may_be_one(data: str, other: str) -> bool:
    """Whether two data sets in words may be the same: of a run that has trained nothing, only the kind is known."""
    (kind, fingerprint), (other_kind, known) = ((*each.split(), "")[:2] for each in (data, other))
    return kind == other_kind and (not fingerprint or not known or fingerprint == known)


def place(run: Compared, rows: list[Row]) -> str | None:
    """Put a run into the row of its system, or into a row of its own; say why if that is unexpected."""
    same = [row for row in rows if row[0].system == run.system]
    for row in same:
        may_be = row[0].asked == run.asked and _may_be_one(row[0].data, run.data)
        if may_be and run.seed not in [other.seed for other in row]:
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
    elif not _may_be_one(nearest.data, run.data):
        why = f"its data is another than that of {nearest.path}"
    else:
        why = f"its seed is {run.seed}, like that of {nearest.path}"
    return (
        f"{run.path} is a row of its own: {why}. To name systems apart, type `stagewise run FILE` again with "
        "`--set pipeline.system=NAME`: nothing is trained again."
    )


def _data_fingerprint(folder: RunFolder, first: dict[str, Any]) -> str:
    if first["state"] != "complete":
        return ""
    path = folder.path / "stages" / first["folder"] / RECORD
    try:
        return str(durable.read_sealed(path, ADVICE)["identity"]["train"]["below"])
    except (KeyError, TypeError):
        raise IntegrityError(f"{path} is damaged (it does not say what the stage was trained on). {ADVICE}") from None


# Runs beside each other: the facts that `compare --json` prints.

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
        # Two seeds may agree by chance: what other test items would change is there all the same.
        lows, highs = zip(*(result["interval"] for _, result in found), strict=True)
        interval = [max(0.0, min(mean - half, fmean(lows))), min(1.0, max(mean + half, fmean(highs)))]
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


# A comparison as tables: one per probe, one of memory, one of the runs; for a terminal or as Markdown.

NONE = "–"
# Columns of words: to the left, and may wrap.
NAMES = ("system", "stage", "largest stage", "run", "data", "state", "items")


@dataclass(frozen=True)
class Sheet:
    """One table of texts, and what is to be said below it; with `fold`, any of its columns may wrap."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str
    fold: bool = False


def sheets(facts: dict[str, Any]) -> Iterator[Sheet]:
    """Yield the tables of what `compare_runs` returned."""
    for column in facts["columns"]:
        yield _probe(column, facts["rows"])
        if any(len(row["stages"].get(column["probe"], [])) > 1 for row in facts["rows"]):
            yield _depth_lines(column, facts["rows"])
    if not facts["columns"] and any(row["losses"] for row in facts["rows"]):
        yield _loss_lines(facts["rows"])
    yield _memory_lines(facts["rows"])
    runs = [(run["name"], run["run"], str(run["seed"]), run["state"], run["data"]) for run in facts["runs"]]
    note = (
        "ours: in brackets the 95 % interval, over the seeds where there are several (but no narrower than over the "
        "test items), else over the test items of the one, which does not cover what another seed would change. "
        "majority: always saying the training items' most frequent class, scored on the test items. data: target and "
        "fingerprint."
        if facts["columns"]
        else "These runs have no probes."
        if not any(run["probes"] for run in facts["runs"])
        else "No probe on the topmost stage it reads is finished yet: type `stagewise run FILE` to go on."
    )
    yield Sheet("runs", ("system", "run", "seed", "state", "data"), runs, note)


def _probe(column: dict[str, Any], rows: list[dict[str, Any]]) -> Sheet:
    task = TASKS.get(column["task"])
    known = any(column["task"] in row["published"] for row in rows)
    lines = []
    for row in rows:
        measured, published = row["measured"].get(column["probe"]), row["published"].get(column["task"])
        if measured or published:
            lines.append((row["name"], *_ours(measured), *([_published(published)] if known else [])))
    note = ""
    if known and task:
        elsewhere = "" if column["as_published"] else f" at full scale on {task.words}, not on the data of these runs"
        note = f"published: measured by its authors{elsewhere} ({task.source})."
    labels = "" if column["labels"] == column["probe"] else f", labels '{column['labels']}'"
    return Sheet(
        f"probe {column['probe']}: {column['metric']} in %{labels}",
        ("system", "stage", "ours", "seeds", "majority", *(["published"] if known else [])),
        lines,
        note,
    )


def _depth_lines(column: dict[str, Any], rows: list[dict[str, Any]]) -> Sheet:
    found: dict[str, dict[str, str]] = {}
    for row in rows:
        results = row["stages"][column["probe"]]
        few = {at["stage"]: f" ({at['seeds']})" for at in results if at["seeds"] < len(row["runs"])}
        for what, name in (("value", row["name"]), ("random", f"{row['name']}, before training")):
            cells = {at["stage"]: at[what] for at in results if at[what] is not None}
            if cells or what == "value":
                found[name] = {stage: _percent(cell) + few.get(stage, "") for stage, cell in cells.items()}
    stages = list(dict.fromkeys(stage for values in found.values() for stage in values))
    lines = [(name, *(values.get(stage, NONE) for stage in stages)) for name, values in found.items()]
    title = f"probe {column['probe']} on every stage: {column['metric']} in %"
    some = any(cell.endswith(")") for values in found.values() for cell in values.values())
    note = "in brackets: over how many seeds, where not all have a result." if some else ""
    return Sheet(title, ("system", *stages), lines, note, fold=True)


def _loss_lines(rows: list[dict[str, Any]]) -> Sheet:
    lines = []
    for row in rows:
        for loss in row["losses"]:
            sure = "" if loss["spread"] is None else f" ± {loss['spread']:.3f}"
            value = f"{loss['loss']:.3f}{sure}"
            lines.append((row["name"], loss["stage"], value, loss["items"], str(loss["seeds"])))
    note = "after training, ± over several seeds (95 %). Losses of other objectives, windows or data are no comparison."
    return Sheet("final loss", ("system", "stage", "loss", "items", "seeds"), lines, note)


def _memory_lines(rows: list[dict[str, Any]]) -> Sheet:
    any_published = any("memory_gb" in row["published"] for row in rows)
    lines = []
    for row in rows:
        memory = row["memory"]
        peaks = (
            memory["measured_peak_bytes"],
            memory["predicted_peak_bytes"],
            memory["end_to_end"]["predicted_peak_bytes"],
        )
        printed = [f"{gb} GB ({what})" for what, gb in row["published"].get("memory_gb", {}).items()]
        lines.append(
            (
                row["name"],
                memory["stage"],
                *(bytes_text(peak) if peak else NONE for peak in peaks),
                *(["\n".join(printed) or NONE] if any_published else []),
            )
        )
    note = "peak of a training step. end to end: the same network in one stage, predicted."
    if any_published:
        note += f" published: a ResNet-50 on {TASKS[MEMORY_TASK].words}, by its authors on their GPU ({MEMORY_SOURCE})."
    return Sheet(
        "memory",
        ("system", "largest stage", "measured", "predicted", "end to end", *(["published"] if any_published else [])),
        lines,
        note,
    )


def _ours(measured: dict[str, Any] | None) -> tuple[str, str, str, str]:
    if measured is None:
        return NONE, NONE, NONE, NONE
    value, (low, high), seeds = measured["value"], measured["interval"], len(measured["seeds"])
    return (
        measured["stage"],
        f"{_percent(value)} ({_percent(low)} – {_percent(high)})",
        str(seeds),
        _percent(measured["chance"]),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _published(figure: dict[str, Any] | None) -> str:
    if figure is None:
        return NONE
    return f"{figure['percent']:.1f}" + ("" if figure["spread"] is None else f" ± {figure['spread']:.1f}")


def print_sheets(facts: dict[str, Any]) -> None:
    """Print a comparison for people."""
    console = Console(markup=False, emoji=False, highlight=False)
    for sheet in sheets(facts):
        table = Table(title=sheet.title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for name in sheet.header:
            words = name in NAMES
            table.add_column(
                name, justify="left" if words else "right", no_wrap=not (words or sheet.fold), overflow="fold"
            )
        for row in sheet.rows:
            table.add_row(*row)
        console.print(table)
        if sheet.note:
            console.print(sheet.note, style="dim")
            console.print()


def markdown(facts: dict[str, Any]) -> str:
    """Return a comparison as aligned Markdown tables, to be pasted."""
    return "\n\n".join(
        "\n\n".join([f"### {sheet.title}", _aligned(sheet), *([sheet.note] if sheet.note else [])])
        for sheet in sheets(facts)
    )


def _aligned(sheet: Sheet) -> str:
    texts = [[cell.replace("|", "\\|").replace("\n", ", ") for cell in row] for row in (sheet.header, *sheet.rows)]
    widths = [max(2, *map(len, cells)) for cells in zip(*texts, strict=True)]
    pads = [str.ljust if name in NAMES else str.rjust for name in sheet.header]
    ends = ["-" if pad is str.ljust else ":" for pad in pads]
    texts.insert(1, ["-" * (width - 1) + end for width, end in zip(widths, ends, strict=True)])
    return "\n".join(
        f"| {' | '.join(pad(cell, width) for pad, cell, width in zip(pads, cells, widths, strict=True))} |"
        for cells in texts
    )
