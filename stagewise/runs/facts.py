"""What is known of a run: its state, its results and how sure they are, what was left out.

Legend: I test items.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stagewise.arrays import Ints
from stagewise.runs.folder import RunFolder
from stagewise.runs.records import (
    WEIGHTS,
    epochs_done,
    read_data,
    read_predictions,
    read_probe,
    read_record,
    same_weights,
)
from stagewise.runs.verdict import verdict
from stagewise.text import counted

# How sure an accuracy, and the difference of two, is: 95 % intervals over items; rows of one item are not independent.
#
# They hold what other test items would change. What another seed, that is another training, would change is in none.

Interval = tuple[float, float]
Z = 1.959963984540054  # of a normal distribution, 97.5 %


def wilson(share: float, total: float, quantile: float = Z) -> Interval:
    """Return the score interval (Wilson, 1927) of a share of `total` independent answers; it stays within 0 and 1."""
    if total == 0:
        return 0.0, 1.0
    z2 = quantile * quantile
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = quantile / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return 0.0 if share == 0 else max(0.0, centre - half), 1.0 if share == 1 else min(1.0, centre + half)


def of_accuracy(correct_I: Ints, rows_I: Ints) -> Interval:
    """Return the interval of an accuracy over rows, whole items being what is drawn.

    One row an item: Wilson's. Several: Wilson's of as many independent rows as would be as sure (Franco et al. 2019,
    "Comparative study of confidence intervals for proportions in complex sample surveys"), with Student's t of I - 1.

    Args:
        correct_I: right rows of each item.
        rows_I: rows of each item.
    """
    rows, items = int(rows_I.sum()), len(rows_I)
    share = correct_I.sum() / max(1, rows)
    if rows == items:  # also of none
        return wilson(share, items)
    if items < 2:
        return 0.0, 1.0
    variance = _covariance(correct_I, correct_I, rows_I)
    independent = share * (1 - share) / variance if variance > 0 else float(items if share in (0, 1) else rows)
    return wilson(share, min(rows, independent), student(items - 1))


def of_difference(first_I: Ints, second_I: Ints, rows_I: Ints) -> tuple[float, Interval]:
    """Return how much more accurate the first of two readers of the same rows is, and the interval of that.

    The intervals of both, with the correlation of what they get right over items: Newcombe's tenth method (1998)
    where an item has one row, and what Zou and Donner (2008) made of it where it has several.

    Args:
        first_I: right rows of each item, by the first.
        second_I: those by the second.
        rows_I: rows of each item.
    """
    rows, items = max(1, int(rows_I.sum())), len(rows_I)
    first, second = first_I.sum() / rows, second_I.sum() / rows
    (low, high), (least, most) = of_accuracy(first_I, rows_I), of_accuracy(second_I, rows_I)
    spread = math.sqrt(_covariance(first_I, first_I, rows_I) * _covariance(second_I, second_I, rows_I))
    alike = _covariance(first_I, second_I, rows_I) / spread if spread > 0 else 0.0
    if rows == items and alike > 0:  # his correction for continuity
        alike = max(0.0, alike - 1 / (2 * items * (items - 1) * spread))
    alike = float(np.clip(alike, -1, 1))

    def reach(own: float, other: float) -> float:
        return math.sqrt(max(0.0, own * own - 2 * alike * own * other + other * other))

    difference = float(first - second)
    down, up = reach(first - low, most - second), reach(high - first, second - least)
    return difference, (max(-1.0, difference - down), min(1.0, difference + up))


def _covariance(first_I: Ints, second_I: Ints, rows_I: Ints) -> float:
    """Estimate the covariance of two accuracies over the items that might have been drawn (ratio estimator)."""
    rows, items = int(rows_I.sum()), len(rows_I)
    if items < 2 or not rows:
        return 0.0
    off_I, other_I = (right_I - right_I.sum() / rows * rows_I for right_I in (first_I, second_I))
    return float(items / (items - 1) * (off_I * other_I).sum() / rows**2)


# The 97.5 % quantile of Student's t of 1 to 30 degrees of freedom.
# fmt: off
STUDENT = (
    12.706204736174694, 4.302652729749462, 3.1824463052837078, 2.7764451051977934, 2.5705818356363146,
    2.4469118511449786, 2.364624251592784, 2.306004135204166, 2.262157162798205, 2.228138851986274,
    2.200985160091639, 2.1788128296672284, 2.1603686564627913, 2.144786687917804, 2.131449545559776,
    2.1199052992212546, 2.1098155778333156, 2.1009220402410382, 2.0930240544083087, 2.085963447265864,
    2.0796138447276795, 2.0738730679040254, 2.0686576104190486, 2.0638985616280245, 2.0595385527532972,
    2.0555294386428735, 2.0518305164802846, 2.0484071417952454, 2.045229642132703, 2.0422724563012378,
)
# fmt: on


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t (1908), to seven digits at least.

    Beyond the table: the expansion about the normal distribution's (Abramowitz and Stegun 1964, 26.7.5).
    """
    if freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    terms = (
        (Z**3 + Z) / 4,
        (5 * Z**5 + 16 * Z**3 + 3 * Z) / 96,
        (3 * Z**7 + 19 * Z**5 + 17 * Z**3 - 15 * Z) / 384,
        (79 * Z**9 + 776 * Z**7 + 1482 * Z**5 - 1920 * Z**3 - 945 * Z) / 92160,
    )
    return Z + math.fsum(term / freedom**power for power, term in enumerate(terms, 1))


# What of the data a stage was not trained on, and what its store does not hold, in words for people.

SATURATED = 1e-3  # share of the values of an int8 store that may be cut without a word


def left_out(stage: Mapping[str, Any]) -> list[str]:
    """Say how many items were too short to be trained on, and whether values were cut to the range of int8.

    Args:
        stage: its facts, as `inspect --json` prints them.
    """
    short, store, words = stage["train"].get("skipped_items") or 0, stage["store"], list[str]()
    if short:
        encoded = "too short for a window, and was" if short == 1 else "too short for a window, and were"
        words.append(f"{counted(short, 'training item is', 'training items are')} {encoded} encoded but not trained on")
    cut, values = store.get("saturated") or 0, store["float32_bytes"] / 4
    if store["state"] == "written" and cut > SATURATED * values:
        words.append(
            f"{cut / values:.2%} of the values of its store lie outside the range that int8 was calibrated for, and "
            'were cut to its ends: store.dtype = "float16" keeps them as they are'
        )
    return words


# What `inspect --json` and `plan --json` print, from the run directory or from a plan.

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
    groups = [stage.get("together", [stage["name"]]) for stage in locked["stages"]]
    if len(groups) > 1 and all(len(group) == 1 for group in groups):
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
