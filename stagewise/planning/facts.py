"""What `plan --json` prints: a plan as plain facts, shaped as the contract says."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch

from stagewise.datasets.base import BadItem, Dataset, Expected
from stagewise.datasets.tables import label_facts
from stagewise.errors import IntegrityError
from stagewise.objectives.base import Supervised
from stagewise.planning.check import few_items
from stagewise.planning.duration import Duration, Fit, estimate
from stagewise.planning.plan import Outline, Plan
from stagewise.planning.stage_plan import StageOutline, StagePlan
from stagewise.runs.records import read_record
from stagewise.text import counted

# Which finished stages new settings put out of reach, and how to keep them in use.


def replaced(plan: Outline) -> str | None:
    """Say which finished stages of the run as it is now are trained again, or are in the file no more; None if none."""
    now = {stage["name"]: stage["folder"] for stage in (plan.run.locked or {"stages": []})["stages"]}
    again = [
        stage
        for stage in plan.stages
        if isinstance(stage, StagePlan) and stage.action in ("train", "resume")
        if now.get(stage.name) != stage.folder.name
        if _finished(plan, now.get(stage.name))
    ]
    removed = [
        name for name, folder in now.items() if name not in {s.name for s in plan.stages} and _finished(plan, folder)
    ]
    if not again and not removed:
        return None
    found = [f"are trained again: {', '.join(stage.name for stage in again)} ({again[0].reason})"] if again else []
    found += [f"are not in the file any more: {', '.join(removed)}"] if removed else []
    run = shlex.quote(str(plan.run.path))
    return (
        f"finished stages {'; '.join(found)}. The old ones stay in {plan.run.path} until `stagewise clean`, but "
        "`embed` and `export` find them only after a `run` with the settings of before. To keep both in use, give the "
        f"new settings a run of their own with --run, or type `stagewise export {run} --out DIR` while the old ones "
        "are in use."
    )


def _finished(plan: Outline, folder: str | None) -> bool:
    if folder is None:
        return False
    with suppress(IntegrityError):
        return read_record(plan.run.path / "stages" / folder, with_store=False) is not None
    return False


def data_facts(dataset: Dataset, labels: list[dict[str, Any]], others: Sequence[BadItem] = ()) -> dict[str, Any]:
    """Return what a run writes down of its data.

    Args:
        dataset: of the pipeline.
        labels: what is known of them.
        others: files that were left out of the data of probes.
    """
    return {
        "fingerprint": dataset.fingerprint(),
        "items": len(dataset),
        "samples": int(dataset.lengths.sum()),
        "labels": labels,
        "skipped": [{"key": item.key, "reason": item.reason} for item in [*dataset.bad, *others]],
        "notes": [*dataset.notes],
    }


def plan_facts(plan: Outline, fits: Sequence[Fit] | None = None) -> dict[str, Any]:
    """Return a plan as JSON-able facts; bytes and rows are integers.

    Args:
        plan: of the pipeline.
        fits: probes that are not there yet; all that the pipeline asks for when left out.
    """
    dataset = plan.data if isinstance(plan, Plan) else None
    warnings = [words for words in (replaced(plan), untested(plan)) if words]
    estimated = estimate(plan, fits)
    return {
        "format": 1,
        "run": str(plan.run.path),
        "pipeline": plan.pipeline.pipeline.name,
        "schedule": plan.pipeline.pipeline.schedule,
        "device": plan.device.type,
        "threads": torch.get_num_threads(),
        "memory_limit_bytes": plan.pipeline.pipeline.memory_limit,
        "disk_limit_bytes": plan.pipeline.pipeline.disk_limit,
        "disk_free_bytes": plan.disk_free,
        "data": {
            "there": dataset is not None,
            "items": len(plan.data),
            "items_to_train_on": None if dataset is None else len(dataset.pool()),
            "items_to_test_on": None if dataset is None else len(dataset.split("test")),
            "samples": plan.data.samples if isinstance(plan.data, Expected) else int(plan.data.lengths.sum()),
            "unit": "patches" if plan.stages[0].built.grid else "samples",
            "source": plan.data.source if isinstance(plan.data, Expected) else "read from the files",
            "labels": [] if dataset is None else label_facts(dataset, read_labels(plan)),
        },
        "end_to_end": {
            "predicted_peak_bytes": plan.end_to_end.peak,
            "by_category": plan.end_to_end.by_category,
        },
        "stages": [_stage(plan, stage, time) for stage, time in zip(plan.stages, estimated.stages, strict=True)],
        "probes": [
            {
                "name": probe.name,
                "stages": probe.stages,
                "labels": probe.labels,
                "random": probe.random,
                "untrained": plan.untrained(probe),
            }
            for probe in plan.pipeline.probe
        ],
        "time": {"seconds": round(estimated.seconds, 1), "probe_seconds": round(estimated.probes, 1)},
        "warnings": warnings,
    }


def read_labels(plan: Outline) -> set[str]:
    """Return the labels of the data set that a probe or an objective reads."""
    probed = {probe.labels for probe in plan.pipeline.probe if probe.data is None}
    objectives = [stage.built.objective for stage in plan.stages]
    return probed | {objective.labels for objective in objectives if isinstance(objective, Supervised)}


def untested(plan: Outline) -> str:
    """Say that items are kept from training for tests that no probe makes; "" if one does, or none are."""
    tested = len(plan.data.split("test")) if isinstance(plan, Plan) else 0
    if not tested or any(probe.data is None for probe in plan.pipeline.probe):
        return ""
    held = f"{counted(tested, 'item is', 'items are')} kept from training for tests, and no probe makes any"
    by_share = "test_fraction" in inspect.signature(type(plan.data)).parameters
    if not by_share or {"splits", "test"} & plan.pipeline.data.arguments.keys():
        return f"{held}."
    return f"{held}: data.test_fraction = 0 trains on them, too, and leaves none for probes that come later."


def _stage(plan: Outline, stage: StageOutline, time: Duration) -> dict[str, Any]:
    few = ""
    if isinstance(plan, Plan) and stage.action in ("train", "resume") and stage.built.epochs:
        few = few_items(plan.data, [plan.stages[position].built for position in stage.together])
    return {
        "index": stage.index,
        "name": stage.name,
        "action": stage.action,
        "reason": stage.reason,
        "warnings": [few] if few else [],
        "fingerprint": stage.fingerprint if isinstance(stage, StagePlan) else None,
        "parameters": sum(p.numel() for p in stage.built.module.parameters()),
        "geometry": {
            "hop": stage.built.geometry.hop,
            "receptive_field": stage.built.geometry.receptive_field,
            "first": stage.built.geometry.first,
            "recurrent": stage.built.geometry.recurrent,
        },
        "precision": stage.built.precision,
        "memory": {
            "predicted_peak_bytes": stage.forecast.bytes.peak,
            "pieces": stage.forecast.pieces,
            "by_category": stage.forecast.bytes.by_category,
        },
        "time": {"train_seconds": round(time.train, 1), "encode_seconds": round(time.encode, 1)},
        "store": {
            "state": stage.store_state,
            "why": stage.policy.why,
            "dtype": stage.built.config.store.dtype,
            "compress": stage.policy.compress,
            "rows": stage.rows,
            "predicted_bytes": stage.store_bytes(),
            "float16_bytes": stage.store_bytes("float16"),
            "float32_bytes": stage.store_bytes("float32"),
        },
    }
