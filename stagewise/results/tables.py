"""What a report says in numbers: runs, stages, probes, machines and decisions as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from stagewise.results import page
from stagewise.results.page import View
from stagewise.runs.facts import STATES, left_out
from stagewise.runs.verdict import above_guessing
from stagewise.text import bytes_text, counted, epochs_text, seconds_text

ENVIRONMENT = ("stagewise", "torch", "python", "device", "device_name", "cpu_capability", "threads")
SKIPPED = 20  # files that were left out are listed


def summary(views: Sequence[View]) -> str:
    """Return what each run is, how far it is, and how long it took."""
    rows = []
    for view in views:
        facts, data = view.facts, view.data
        done = sum(stage["state"] == "complete" for stage in facts["stages"])
        seconds = sum(stage["train"]["seconds"] + stage["store"]["seconds"] for stage in facts["stages"])
        where = f" in {data['root']}" if isinstance(data.get("root"), str) else ""
        state = f"{STATES[facts['state']]}, {done} of {counted(len(facts['stages']), 'stage')}"
        rows.append(
            (
                view.name,
                facts["pipeline"],
                f"{data['target']}{where}",
                state,
                facts["schedule"],
                facts["device"],
                seconds_text(seconds) if seconds else "",
            )
        )
    words = ("run", "pipeline", "data", "state", "schedule", "device")
    return page.table("Runs, with the time of training and encoding", words, ("time",), rows)


def stages(view: View) -> str:
    """Return what each stage of a run is, what it learnt and what it cost."""
    whole = view.facts["end_to_end"]["predicted_peak_bytes"]
    rows = []
    for stage in view.facts["stages"]:
        train, memory = stage["train"], stage["memory"]
        predicted, measured = memory["predicted_peak_bytes"], memory["measured_peak_bytes"]
        done = stage["state"] == "complete"
        rows.append(
            (
                f"{stage['index']} {stage['name']}",
                STATES[stage["state"]],
                _store(stage["store"]) if done else "",
                f"{stage['parameters']:,}",
                _number(train["initial_loss"]),
                _number(train["validation_loss"]),
                epochs_text(train) if done else "",
                bytes_text(predicted),
                bytes_text(measured) if measured else "",
                f"{(measured or predicted) / whole:.2f}" if whole else "",
                seconds_text(train["seconds"] + stage["store"]["seconds"]) if done else "",
            )
        )
    numbers = ("parameters", "loss before", "after", "epochs", "memory predicted", "measured", "of end to end", "time")
    return page.table(f"Stages of {view.name}", ("stage", "state", "store"), numbers, rows)


def _store(store: dict[str, Any]) -> str:
    return f"{bytes_text(store['bytes'])} of {store['dtype']}" if store["state"] == "written" else str(store["state"])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def warnings(view: View) -> Iterator[str]:
    """Yield what the stages of a run were warned of, if anything."""
    found = [
        f"{stage['name']}: {text}"
        for stage in view.facts["stages"]
        for text in [*(stage.get("health") or {}).get("warnings", []), above_guessing(stage["train"])]
        if text
    ]
    if found:
        yield page.note(f"Warnings of {view.name}:") + page.listed(found)
    left = [f"{stage['name']}: {text}" for stage in view.facts["stages"] for text in left_out(stage)]
    left += [
        f"probe {probe['name']} on {probe['stage']}: {counted(many, 'item')} with a label, too short for a row"
        for probe in view.facts["probes"]
        if (many := probe.get("too_short", 0))
    ]
    if left:
        yield page.note(f"What stages and probes of {view.name} did without:") + page.listed(left)
    if notes := (view.facts["data"] or {}).get("notes"):
        yield page.note(f"What was noted of the data of {view.name}:") + page.listed(notes)
    skipped = (view.facts["data"] or {}).get("skipped", [])
    if skipped:
        lines = [f"{item['key']}: {item['reason']}" for item in skipped[:SKIPPED]]
        more = [f"… and {len(skipped) - SKIPPED:,} more in data.json"] if len(skipped) > SKIPPED else []
        many = counted(len(skipped), "file was", "files were")
        yield page.note(f"{many} left out of {view.name}:") + page.listed(lines + more)


def probes(view: View) -> str:
    """Return the scores of a run's finished probes."""
    rows = [
        (
            probe["name"],
            probe["stage"],
            probe["words"],
            f"{100 * probe['value']:.2f}",
            " – ".join(f"{100 * end:.2f}" for end in probe["interval"]),
            _with_interval(probe["random"]) if probe["random"] else "",
            _difference(probe["paired"]) if probe["paired"] else "",
            f"{100 * probe['majority']:.2f}",
            f"{probe['train_items']:,}",
            f"{probe['test_items']:,}",
        )
        for probe in view.facts["probes"]
    ]
    if not rows:
        some = view.facts["probes_missing"]
        return page.note(f"No probe of {view.name} is finished yet." if some else f"{view.name} has no probe.")
    numbers = (
        "accuracy %",
        "95 % interval",
        "before training %",
        "better by, points",
        "majority %",
        "training items",
        "test items",
    )
    note = (
        "Before training: on the same stages then, read alike, where the probe has random = true. Better by: "
        "the difference on the same test items, with its 95 % interval; better or worse is said where that is on one "
        "side of 0. Intervals hold what other test items would change; another seed would train other stages, and "
        "none holds that. Majority: always saying the most frequent class of the training items."
    )
    return page.table(f"Probes of {view.name}", ("probe", "stage", "verdict"), numbers, rows) + page.note(note)


def _with_interval(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{100 * found['value']:.2f} ({100 * low:.2f} – {100 * high:.2f})"


def _difference(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    return f"{100 * found['difference']:+.2f} ({100 * low:+.2f} – {100 * high:+.2f})"


def environments(views: Sequence[View]) -> str:
    """Return which versions and machines made which stages."""
    rows = []
    for view in views:
        made: dict[tuple[str, ...], list[str]] = {}
        for stage in view.facts["stages"]:
            if (facts := stage.get("environment")) is not None:
                made.setdefault(tuple(str(facts.get(key, "")) for key in ENVIRONMENT), []).append(stage["name"])
        rows += [(view.name, ", ".join(names), *values) for values, names in made.items()]
    if not rows:
        return page.note("No stage is finished yet.")
    words = ("run", "stages", "stagewise", "torch", "python", "device", "name", "CPU")
    return page.table("Where the stages were made", words, ("threads",), rows)


def decisions(view: View) -> str:
    """Return what the plan decided for each stage of a run, why, and what came of it on the disk."""
    rows = []
    for stage in view.facts["stages"]:
        store, size = stage["store"], stage["store"]["bytes"]
        rows.append(
            (
                stage["name"],
                store["state"],
                store["why"],
                f"{store['rows']:,}",
                bytes_text(size) if size else "",
                f"{size / store['float32_bytes']:.2f}" if size else "",
                f"{stage['memory']['pieces']:,}",
            )
        )
    limit = view.facts["memory_limit_bytes"]
    caption = f"What the plan decided for {view.name}, {f'below {bytes_text(limit)}' if limit else 'no memory limit'}"
    numbers = ("rows", "size", "of float32", "pieces of a batch")
    return page.table(caption, ("stage", "store", "why"), numbers, rows)
