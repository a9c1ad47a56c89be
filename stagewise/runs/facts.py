"""What `inspect --json` and `plan --json` print, from the run directory or from a plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stagewise.runs.data_record import read_data
from stagewise.runs.folder import RunFolder
from stagewise.runs.interval import of_difference
from stagewise.runs.probe_record import read_predictions, read_probe
from stagewise.runs.record import WEIGHTS, epochs_done, read_record, same_weights
from stagewise.runs.verdict import verdict

STATES = {"complete": "complete", "partial": "begun", "empty": "not begun"}  # of a run or a stage, in words

EMPTY_TRAIN = {
    "epochs": 0,
    "steps": 0,
    "seconds": 0.0,
    "loss": None,
    "initial_loss": None,
    "validation_loss": None,
    "converged": False,
    "data_wait_seconds": 0.0,
}


def run_facts(run: RunFolder) -> dict[str, Any]:
    """Return the facts of a run, as the contract shapes them; reads only, and never imports torch.

    Raises:
        IntegrityError: a record is damaged.
    """
    locked = run.locked
    assert locked is not None
    asked = [stage["train"]["epochs"] for stage in locked["pipeline"]["stage"]]
    stages = _outdated(
        [_stage_facts(run, *both) for both in zip(locked["stages"], asked, strict=True)], locked["stages"]
    )
    done = sum(stage["state"] == "complete" for stage in stages)
    weights = {stage["name"]: stage["weights"] if stage["state"] == "complete" else "" for stage in stages}
    probes = list(_probe_facts(run, locked, weights))
    complete = done == len(stages) and all(p["value"] is not None for p in probes)
    settings = locked["pipeline"]["pipeline"]
    environment: dict[str, Any] = next((s["environment"] for s in reversed(stages) if s.get("environment")), {})
    return {
        "format": 1,
        "run": str(run.path),
        "pipeline": settings["name"],
        "system": settings.get("system") or settings["name"],
        "state": "complete" if complete else "partial" if done or _started(run) else "empty",
        "in_use": run.writer,
        "schedule": _schedule(locked),
        "device": locked["device"],
        "threads": environment.get("threads"),
        "memory_limit_bytes": settings.get("memory_limit"),
        "data": read_data(run),
        "end_to_end": {
            "predicted_peak_bytes": locked["end_to_end"]["peak"],
            "by_category": locked["end_to_end"]["by_category"],
        },
        "stages": stages,
        "probes": [probe for probe in probes if probe["value"] is not None],
        "probes_missing": [f"{probe['name']} on {probe['stage']}" for probe in probes if probe["value"] is None],
    }


def _outdated(stages: list[dict[str, Any]], locked: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Call what was trained on other weights than those below it now what it is: to be made again."""
    names = [stage["name"] for stage in stages]
    for facts, then in zip(stages, locked, strict=True):
        lowest = names.index((then.get("together") or [facts["name"]])[0])
        below = stages[lowest - 1]["weights"] if lowest else ""
        if not same_weights(facts.get("below"), below):
            facts["state"] = "partial"
    return stages


def _schedule(locked: dict[str, Any]) -> str:
    """Return the schedule that the stages were trained in: those that are done keep theirs when the file's changes."""
    companies = [stage.get("together", [stage["name"]]) for stage in locked["stages"]]
    if len(companies) > 1 and all(len(company) == 1 for company in companies):
        return "iterative"
    return str(locked["pipeline"]["pipeline"]["schedule"])


def _stage_facts(run: RunFolder, locked: dict[str, Any], epochs: int) -> dict[str, Any]:
    record, begun = None, dict(EMPTY_TRAIN)
    if locked["folder"] is not None:
        folder = run.path / "stages" / locked["folder"]
        record = read_record(folder)
        if record is None and folder.exists():
            locked = locked | {"state": "partial"}
            begun["epochs"] = epochs_done(folder) or 0
    facts: dict[str, Any] = {
        "index": locked["index"],
        "name": locked["name"],
        "state": locked.get("state", "empty"),
        "fingerprint": locked["fingerprint"],
        "parameters": locked["parameters"],
        "weights": None,
        "memory": {
            "predicted_peak_bytes": locked["peak"],
            "measured_peak_bytes": None,
            "pieces": locked["pieces"],
            "by_category": locked["by_category"],
        },
        "train": begun,
        "store": {
            "state": "written" if locked["policy"]["write"] else "recomputed",
            "why": locked["policy"]["why"],
            "dtype": None,
            "rows": locked["rows"],
            "bytes": 0,
            "float32_bytes": locked.get("float32_bytes", 0),
            "seconds": 0.0,
            "forward_seconds": 0.0,
        },
    }
    if record is not None:
        facts |= {"state": "complete", "folder": locked["folder"], "weights": record["files"][WEIGHTS]}
        facts |= {"below": record.get("below")}
        facts |= {key: record[key] for key in ("train", "store", "memory", "health", "environment")}
    facts["train"] = facts["train"] | {"epochs_allowed": epochs}
    return facts


def _probe_facts(run: RunFolder, locked: dict[str, Any], weights: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what each probe found, beside what it found on random weights; `value` is None until all of it is there."""
    results, random = {}, {}
    for probe in locked.get("probes", []):
        folder = run.path / "probes" / probe["folder"]
        key, result = (probe["name"], probe["stage"]), read_probe(folder, probe["name"])
        if probe.get("random"):
            random[key] = folder, result
        else:
            fits = result is not None and same_weights(result.get("weights"), weights[probe["stage"]])
            results[key] = folder, result if fits and result else {**probe, "value": None}
    for key, (folder, result) in results.items():
        other, start = random.get(key, (folder, None))
        if result["value"] is None or (key in random and start is None):
            yield result | {"value": None}
            continue
        result = {key: value for key, value in result.items() if key not in ("class_names", "predictions")} | {
            "folder": folder.name,
            "random": start and {"value": start["value"], "interval": start["interval"]},
            "baselines": [],
            "paired": _paired(folder, result, other, start),
        }
        result["verdict"], result["words"] = verdict(result)
        yield result


def _paired(folder: Path, result: dict[str, Any], other: Path, start: dict[str, Any] | None) -> dict[str, Any] | None:
    """Compare a probe with that on random weights, item by item; None where there is none, or of older versions."""
    if start is None:
        return None
    ours, theirs = read_predictions(folder, result), read_predictions(other, start)
    if ours is None or theirs is None or ours.keys != theirs.keys or ours.rows_I.tolist() != theirs.rows_I.tolist():
        return None
    difference, interval = of_difference(ours.correct_I, theirs.correct_I, ours.rows_I)
    return {"difference": difference, "interval": list(interval)}


def _started(run: RunFolder) -> bool:
    stages: Path = run.path / "stages"
    return stages.exists() and any(stages.iterdir())
