"""A comparison as tables: one per probe, one of memory, one of the runs; for a terminal or as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from stagewise.comparing.published import MEMORY_SOURCE, MEMORY_TASK, TASKS
from stagewise.show import bytes_text

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
            yield _depths(column, facts["rows"])
    if not facts["columns"] and any(row["losses"] for row in facts["rows"]):
        yield _losses(facts["rows"])
    yield _memory(facts["rows"])
    runs = [(run["name"], run["run"], str(run["seed"]), run["state"], run["data"]) for run in facts["runs"]]
    note = (
        "ours: in brackets the 95 % interval, over the seeds where there are several, else over the test items of the "
        "one, which does not hold what another seed would change. majority: always saying the "
        "training items' most frequent class, scored on the test items. data: target and fingerprint."
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


def _depths(column: dict[str, Any], rows: list[dict[str, Any]]) -> Sheet:
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        results = row["stages"][column["probe"]]
        found[row["name"]] = {at["stage"]: at["value"] for at in results}
        if random := {at["stage"]: at["random"] for at in results if at["random"] is not None}:
            found[f"{row['name']}, before training"] = random
    stages = list(dict.fromkeys(stage for values in found.values() for stage in values))
    lines = [
        (name, *(_percent(values[stage]) if stage in values else NONE for stage in stages))
        for name, values in found.items()
    ]
    title = f"probe {column['probe']} on every stage: {column['metric']} in %"
    return Sheet(title, ("system", *stages), lines, "", fold=True)


def _losses(rows: list[dict[str, Any]]) -> Sheet:
    lines = []
    for row in rows:
        for loss in row["losses"]:
            sure = "" if loss["spread"] is None else f" ± {loss['spread']:.3f}"
            value = f"{loss['loss']:.3f}{sure}"
            lines.append((row["name"], loss["stage"], value, loss["items"], str(loss["seeds"])))
    note = "after training, ± over several seeds (95 %). Losses of other objectives, windows or data are no comparison."
    return Sheet("final loss", ("system", "stage", "loss", "items", "seeds"), lines, note)


def _memory(rows: list[dict[str, Any]]) -> Sheet:
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
