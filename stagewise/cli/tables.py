"""Facts as tables for people, at any width of terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from stagewise.datasets.tables import label_words
from stagewise.runs.facts import STATES, left_out
from stagewise.runs.folder import in_use
from stagewise.runs.verdict import ADVICE_ON, LIKE_GUESSING, UNSURE, above_guessing, of_guessing
from stagewise.text import about_text, bytes_text, clock_text, computed_text, counted, epochs_text, printable

SHARE = "of end\nto end"  # heading of the share of what training end to end would take


def print_run(facts: dict[str, Any]) -> None:
    """Print the stages and probes of a run."""
    console, facts = _console(), printable_facts(facts)
    whole = facts["end_to_end"]["predicted_peak_bytes"]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("stage", "loss", "epochs", "time", "memory", SHARE, "store"):
        table.add_column(name, justify="left" if name == "stage" else "right", no_wrap=True)
    for stage in facts["stages"]:
        train, memory = stage["train"], stage["memory"]
        peak = memory["measured_peak_bytes"] or memory["predicted_peak_bytes"]
        done = stage["state"] == "complete"
        table.add_row(
            f"{stage['index']} {stage['name']}",
            _losses(train) if done else _begun(stage),
            epochs_text(train) if done else "",
            clock_text(train["seconds"] + stage["store"]["seconds"]) if done else "",
            bytes_text(peak),
            f"{peak / whole:.2f}" if whole else "",
            _store(stage["store"]),
        )
    busy = f", {in_use(facts['in_use'])}" if facts["in_use"] else ""
    _print_table(console, f"{facts['run']}: {STATES[facts['state']]}{busy}", table)
    console.print(
        f"loss: validation, before → after training{of_guessing(facts['stages'])}{_judged(facts)}. "
        "epochs: trained/allowed; a stage that took all of them may not have converged. memory: peak of a training "
        "step. of end to end: of the "
        f"{bytes_text(whole)} that the same network trained end to end would take (predicted).{_unfinished(facts)}",
        style="dim",
    )
    for stage in facts["stages"]:
        guessing = above_guessing(stage["train"]) if stage["state"] == "complete" else ""
        for warning in [*(stage.get("health") or {}).get("warnings", []), *filter(None, [guessing])]:
            console.print(f"warning: {stage['name']}: {warning}", style="yellow")
    for stage in facts["stages"]:
        for text in left_out(stage):
            console.print(f"{stage['name']}: {text}.")
    for note in (facts["data"] or {}).get("notes", ()):
        console.print(printable(note), style="dim")
    if skipped := (facts["data"] or {}).get("skipped"):
        console.print(
            f"warning: {counted(len(skipped), 'file was', 'files were')} left out, such as {skipped[0]['key']} "
            f"({skipped[0]['reason']}); data.json lists all.",
            style="yellow",
        )
    _print_labels(console, (facts["data"] or {}).get("labels", []))
    if facts["probes"]:
        _print_probes(console, facts["probes"])
    if facts["probes_missing"]:
        console.print(f"probes that are not fitted yet: {', '.join(facts['probes_missing'])}.", style="dim")


def _print_labels(console: Console, labels: list[dict[str, Any]]) -> None:
    for words, warns in map(label_words, labels):
        console.print(f"{'warning: ' if warns else ''}label {words}.", style="yellow" if warns else "")


def _judged(facts: dict[str, Any]) -> str:
    """Say whose losses are those of training, as nothing was held out."""
    trains = {stage["name"]: stage["train"] for stage in facts["stages"] if stage["state"] == "complete"}
    names = [n for n, train in trains.items() if train["initial_loss"] is None and train["validation_loss"] is not None]
    return f"; of {', '.join(names)}: of training, as nothing was held out" if names else ""


def _unfinished(facts: dict[str, Any]) -> str:
    """Say how to go on where the stages are not all complete."""
    if all(stage["state"] == "complete" for stage in facts["stages"]):
        return ""
    return " The command that made it, with its --set, goes on."


def _print_probes(console: Console, probes: list[dict[str, Any]]) -> None:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    beside = any(probe["random"] for probe in probes)
    for name in ("probe", "stage", "accuracy", *(["before training"] if beside else []), "items to\ntrain + test"):
        table.add_column(name, justify="left" if name in ("probe", "stage") else "right", no_wrap=True)
    for probe in probes:
        table.add_row(
            probe["name"],
            probe["stage"],
            _value(probe),
            *([_value(probe["random"]) if probe["random"] else ""] if beside else []),
            f"{probe['train_items']:,} + {probe['test_items']:,}",
        )
    _print_table(console, "probes", table)
    words = (
        "accuracy: in brackets its 95 % interval over the test items; another seed would train other stages, and no "
        "interval holds that."
    )
    if beside:
        words += (
            " before training: on the same stages then, read alike; better or worse: the 95 % interval of the "
            "difference on the same test items says so."
        )
    majorities = dict.fromkeys(f"{probe['majority']:.3f} for {probe['name']}" for probe in probes)
    console.print(
        f"{words} Always saying the training items' most frequent class gives {', '.join(majorities)}.",
        style="dim",
    )
    short: dict[tuple[str, int], list[str]] = {}
    for probe in probes:
        short.setdefault((probe["name"], probe.get("too_short", 0)), []).append(probe["stage"])
    for (name, many), where in short.items():
        if many:
            words = counted(many, "item with a label is", "items with a label are")
            console.print(f"{name}: {words} in neither number: too short for a row of {', '.join(where)}.", style="dim")
    for said, advice in ADVICE_ON.items():
        stages: dict[str, list[str]] = {}
        for probe in probes:
            if probe["words"] == said:
                stages.setdefault(probe["name"], []).append(probe["stage"])
        for name, where in stages.items():
            words = f"{name} on {', '.join(where)} is {said}: {advice}."
            if said in (LIKE_GUESSING, UNSURE):
                console.print(words, style="dim")
            else:
                console.print(f"warning: {words}", style="yellow")


def _value(score: dict[str, Any]) -> str:
    low, high = score["interval"]
    return f"{score['value']:.3f} ({low:.3f}–{high:.3f})"


def print_predictions(said: Mapping[str, Counter[str]], shares: Mapping[str, float] | None) -> None:
    """Print which class each file has.

    Args:
        said: how often which class is said, by file.
        shares: probability of it, where it is said once; None where every row of a file has one.
    """
    console, table = _console(), Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("file", "predicted", "share of rows" if shares is None else "probability"):
        table.add_column(name, justify="right" if name not in ("file", "predicted") else "left", overflow="fold")
    for key, counts in said.items():
        ((name, count),) = counts.most_common(1)
        share = count / counts.total() if shares is None else shares[key]
        table.add_row(printable(key), printable(name), f"{share:.3f}")
    console.print(table)


def print_plan(facts: dict[str, Any]) -> None:
    """Print what would run, and what it would cost."""
    console, facts = _console(), printable_facts(facts)
    whole, data = facts["end_to_end"]["predicted_peak_bytes"], facts["data"]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("stage", "action", "memory", SHARE, "store", "size", "float16"):
        table.add_column(name, justify="left" if name in ("stage", "action", "store") else "right", no_wrap=True)
    for stage in facts["stages"]:
        memory, store = stage["memory"], stage["store"]
        sizes = bytes_text(store["predicted_bytes"]), bytes_text(store["float16_bytes"])
        pieces = f" in {memory['pieces']} pieces" if memory["pieces"] > 1 else ""
        table.add_row(
            f"{stage['index']} {stage['name']}",
            stage["action"],
            bytes_text(memory["predicted_peak_bytes"]) + pieces,
            f"{memory['predicted_peak_bytes'] / whole:.2f}" if whole else "",
            store["dtype"] if store["state"] == "written" else store["state"],
            *(size if store["state"] == "written" else f"({size})" for size in sizes),
        )
    _print_table(console, f"plan for {facts['run']}", table)
    console.print(
        f"memory: peak of a training step. of end to end: of the {bytes_text(whole)} that the same network trained "
        "end to end would take. "
        "size: of the store before compression, float16: if it were float16; in brackets: it is not kept.",
        style="dim",
    )
    reasons: dict[str, list[str]] = {}
    for stage in facts["stages"]:
        store = stage["store"]
        why = f"{stage['action']} ({stage['reason']}); store {store['state']}: {store['why']}."
        reasons.setdefault(why, []).append(stage["name"])
    for why, names in reasons.items():
        console.print(f"{', '.join(names)}: {why}", style="dim")
    for stage in facts["stages"]:
        for warning in stage["warnings"]:
            console.print(f"warning: {stage['name']}: {warning}", style="yellow")
    wanted = sum(s["store"]["predicted_bytes"] for s in facts["stages"] if s["store"]["state"] == "written")
    console.print(
        f"data: {counted(data['items'], 'item')}{_parts(data)}, {data['samples']:,} {data['unit']} ({data['source']}). "
        f"stores: {bytes_text(wanted)} of {bytes_text(facts['disk_free_bytes'])} free.",
    )
    _print_labels(console, data["labels"])
    precisions = {stage["name"]: stage["precision"] for stage in facts["stages"]}
    console.print(f"{computed_text(facts['device'], facts['threads'], precisions)}.")
    if text := _time(facts):
        console.print(text)
    for probe in facts["probes"]:
        stages = "every stage" if probe["stages"] == "all" else ", ".join(probe["stages"])
        beside = ", and from the same stages before training" if probe["random"] else ""
        done = f"; {there} of {probe['fits']} are fitted already" if (there := probe.get("fits_there")) else ""
        once = f" ({', '.join(names)} once: nothing is trained there)" if (names := probe.get("untrained")) else ""
        console.print(f"probe {probe['name']}: label '{probe['labels']}', read from {stages}{beside}{once}{done}.")
    for warning in facts["warnings"]:
        console.print(f"warning: {warning}", style="yellow")
    if wanted > facts["disk_free_bytes"]:
        console.print(
            f"warning: the stores need {bytes_text(wanted - facts['disk_free_bytes'])} more than is free. Make room, "
            'set defaults.store.dtype = "int8", or store.write = "auto" for the stages to be computed again instead.',
            style="yellow",
        )


def _parts(data: dict[str, Any]) -> str:
    """Say how many items may be trained on, and how many are kept for tests; of two views, each counts once."""
    train, test = data["items_to_train_on"], data["items_to_test_on"]
    return "" if train is None else f" ({train:,} to train on, {test:,} to test on)"


def _time(facts: dict[str, Any]) -> str:
    """Say about how long what is to be made takes; nothing where nothing is."""
    each = {stage["name"]: sum(stage["time"].values()) for stage in facts["stages"]}
    each["the probes"] = facts["time"]["probe_seconds"]
    if not (whole := sum(each.values())):
        return ""
    threads = counted(facts["threads"], "thread")
    where = f"{threads} of a machine on which nothing else runs" if facts["device"] == "cpu" else "a GPU, a guess"
    parts = ", ".join(f"{name} {about_text(seconds)}" for name, seconds in each.items() if seconds)
    detail = f": {parts}" if len(each) > 1 and whole >= 60 else ""
    return (
        f"time: {about_text(whole)} at most, on {where}, give or take a factor of three{detail}. "
        "A stage that converges ends earlier."
    )


def print_warning(text: str) -> None:
    """Print a warning to standard error, at any width of terminal."""
    _console(stderr=True).print(printable(f"warning: {text}"), style="yellow")


def _console(stderr: bool = False) -> Console:
    """Return a standard stream that takes every text as it is: a name may hold `[red]` or `:wave:`."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def printable_facts(facts: Any) -> Any:
    """Make every text in facts one that a terminal may be sent."""
    if isinstance(facts, dict):
        return {key: printable_facts(value) for key, value in facts.items()}
    if isinstance(facts, list | tuple):
        return [printable_facts(value) for value in facts]
    return printable(facts) if isinstance(facts, str) else facts


def _print_table(console: Console, title: str, table: Table) -> None:
    """Print a table; where it is too wide, what is in each of its rows, one below the other."""
    console.print(title, style="italic", soft_wrap=True)  # a path is not cut into pieces
    if table.__rich_measure__(console, console.options.update(max_width=1000)).maximum <= console.width:
        console.print(table)
        return
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        console.print(str(cells[0]))
        for column, cell in list(zip(table.columns, cells, strict=True))[1:]:
            if cell:
                console.print(f"  {str(column.header).replace(chr(10), ' ')}: {cell}")


def _losses(train: dict[str, Any]) -> str:
    before, after = train["initial_loss"], train["validation_loss"]
    if before is None or after is None:
        return "" if train["loss"] is None else f"{train['loss']:.3f}"
    return f"{before:.3f}" if not train["epochs"] else f"{before:.3f} → {after:.3f}"


def _begun(stage: dict[str, Any]) -> str:
    epochs = stage["train"]["epochs"] if stage["train"]["loss"] is None else 0
    return f"after epoch {epochs}" if epochs else STATES[stage["state"]]


def _store(store: dict[str, Any]) -> str:
    if store["state"] != "written":
        return str(store["state"])
    return bytes_text(store["bytes"]) if store["bytes"] else "to be written"
