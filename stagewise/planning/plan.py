"""The plan: for every stage what would be done and why, its memory, its store; made before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stagewise.datasets.base import Dataset, Expected
from stagewise.modules.stage_module import StageModule
from stagewise.pipeline import Pipeline, Probe
from stagewise.pipeline.identity import fingerprint
from stagewise.planning.build import BuiltStage, end_to_end
from stagewise.planning.changes import choose_actions, identify
from stagewise.planning.check import check_data, check_stages
from stagewise.planning.stage_plan import Forecast, StageOutline, StagePlan, forecast, within_limit
from stagewise.planning.stores import Policy, decide, forward_flops, total_rows
from stagewise.runs.folder import RunFolder
from stagewise.training.memory_measured import Bytes

SPARE_DISK = 0.9  # of the free bytes may be planned with
NO_MEMORY = {"epochs", "patience", "windows_per_item", "checkpoint", "schedule"}  # keys of training that take none
INPUT = ("channels", "row_shape", "sample_rate", "mean", "std", "patch", "stride")  # what a frozen encoder must know


@dataclass(frozen=True)
class Outline:
    """Everything that is known of a pipeline before its data is there.

    Attributes:
        pipeline: validated.
        run: the run directory; it need not exist.
        device: where the stages would be trained.
        data: the data set, or its expected size.
        stages: the lowest first.
        end_to_end: memory of a step that trains all of them end to end.
        disk_free: bytes that stores may take.
        keys: hashes of what the decisions depend on.
    """

    pipeline: Pipeline
    run: RunFolder
    device: torch.device
    data: Dataset | Expected
    stages: Sequence[StageOutline]
    end_to_end: Bytes
    disk_free: int
    keys: dict[str, str]

    def is_trained(self, position: int) -> bool:
        """Say whether a stage, or one below it, is trained: otherwise it is as it was before."""
        return any(stage.built.epochs > 0 for stage in self.stages[: position + 1])

    def untrained(self, probe: Probe) -> list[str]:
        """Return which stages a probe with `random = true` reads once, since they are as they were before training."""
        stages = [stage.name for stage in self.stages if not self.is_trained(stage.index - 1)]
        return [name for name in stages if probe.random and (probe.stages == "all" or name in probe.stages)]


@dataclass(frozen=True)
class Plan(Outline):
    """Everything that is known before anything runs, of data that is there."""

    data: Dataset
    stages: Sequence[StagePlan]

    def locked(self) -> dict[str, Any]:
        """What `pipeline.lock.json` keeps: the pipeline, and the decisions, so that they stay as they are."""
        return {
            "format": 1,
            "pipeline": self.pipeline.model_dump(mode="json"),
            "device": self.device.type,
            "keys": self.keys,
            "input": {name: _plain(getattr(self.data, name)) for name in INPUT if hasattr(self.data, name)},
            "end_to_end": {"peak": self.end_to_end.peak, "by_category": self.end_to_end.by_category},
            "stages": [
                {
                    "index": stage.index,
                    "name": stage.name,
                    "fingerprint": stage.fingerprint,
                    "folder": stage.folder.name,
                    "precision": stage.built.precision,
                    "parameters": sum(p.numel() for p in stage.built.module.parameters()),
                    "rows": stage.rows,
                    "float32_bytes": stage.store_bytes("float32"),
                    "policy": vars(stage.policy),
                    "together": [self.stages[position].name for position in stage.together],
                    "pieces": stage.forecast.pieces,
                    "peak": stage.forecast.bytes.peak,
                    "by_category": stage.forecast.bytes.by_category,
                }
                for stage in self.stages
            ],
        }


def make_plan(
    pipeline: Pipeline,
    run: RunFolder,
    built: Sequence[BuiltStage],
    device: torch.device,
    dataset: Dataset,
    locked: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan a pipeline against what its run directory already holds.

    Args:
        pipeline: validated.
        run: the run directory; it need not exist.
        built: the pipeline's stages.
        device: where they would be trained.
        dataset: that they are trained on.
        locked: another plan's decisions, which are kept where nothing that they depend on differs; the run's when left
            out.

    Raises:
        ConfigError: a limit cannot be met.
        IntegrityError: something the run directory holds is damaged.
    """
    locked = locked or run.locked or {}
    outlines, free, disk = _outline(pipeline, run, built, dataset, locked)
    stages = identify(pipeline, run, outlines, dataset.fingerprint())
    check_stages(stages, pipeline.pipeline.schedule, dataset)
    check_data(stages, dataset, pipeline.data.validation, pipeline.pipeline.seed)
    keys = {"disk": disk, "memory": _memory_key(stages, pipeline.pipeline.memory_limit)}
    whole = _forecast(stages, pipeline.pipeline.memory_limit, keys, locked)
    choose_actions(stages, pipeline.pipeline.schedule)
    return Plan(pipeline, run, device, dataset, stages, whole, free, keys)


def make_outline(
    pipeline: Pipeline, run: RunFolder, built: Sequence[BuiltStage], device: torch.device, expected: Expected
) -> Outline:
    """Plan what can be planned of a pipeline before its data is there.

    Raises:
        ConfigError: a limit cannot be met.
    """
    locked = run.locked or {}
    stages, free, disk = _outline(pipeline, run, built, expected, locked)
    check_stages(stages, pipeline.pipeline.schedule, expected)
    keys = {"disk": disk, "memory": _memory_key(stages, pipeline.pipeline.memory_limit)}
    whole = _forecast(stages, pipeline.pipeline.memory_limit, keys, locked)
    return Outline(pipeline, run, device, expected, stages, whole, free, keys)


def _outline(
    pipeline: Pipeline,
    run: RunFolder,
    built: Sequence[BuiltStage],
    data: Dataset | Expected,
    locked: Mapping[str, Any],
) -> tuple[list[StageOutline], int, str]:
    """Return the stages, with what becomes of their stores; the bytes that these may take; the hash of all that."""
    rows = [total_rows(data.lengths, stage) for stage in built]
    disk = _disk_key(built, rows, pipeline.pipeline.disk_limit)
    free = _free(run.path) + _stored(run.path)  # a store that is there needs no more room
    if locked.get("keys", {}).get("disk") == disk:
        policies = [Policy(**stage["policy"]) for stage in locked["stages"]]
    else:
        policies = decide(
            pipeline.pipeline.disk_limit, built, [forward_flops(stage) for stage in built], rows, int(free * SPARE_DISK)
        )
    in_sync = range(len(built)) if pipeline.pipeline.schedule == "simultaneous" else None
    stages = [
        StageOutline(i + 1, stage, policies[i], rows[i], in_sync or range(i, i + 1)) for i, stage in enumerate(built)
    ]
    return stages, free, disk


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _free(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _stored(path: Path) -> int:
    files = path.glob("stages/*/store.zarr/**/*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _network(stage: BuiltStage) -> dict[str, Any]:
    table = stage.config.model_dump(mode="json", exclude={"train", "store"})
    return table | {"parameters": sum(p.numel() for p in stage.module.parameters())}


def _disk_key(built: Sequence[BuiltStage], rows: Sequence[int], limit: int | None) -> str:
    """Hash what the decisions on stores depend on, so that they are taken once and kept."""
    stores = [stage.config.store.model_dump(mode="json") for stage in built]
    content = {"networks": [_network(stage) for stage in built], "stores": stores, "rows": list(rows)}
    return fingerprint({**content, "limit": limit})


def _memory_key(stages: Sequence[StageOutline], limit: int | None) -> str:
    """Hash what the forecasts of memory depend on, beside the stores."""
    trains = [
        s.built.config.train.model_dump(mode="json", exclude=NO_MEMORY) | {"precision": s.built.precision}
        for s in stages
    ]
    shapes = [[list(s.built.module.in_shape), s.built.rows, list(s.together)] for s in stages]
    content = {"networks": [_network(s.built) for s in stages], "trains": trains, "shapes": shapes}
    return fingerprint({**content, "limit": limit})


def _forecast(
    stages: Sequence[StageOutline], limit: int | None, keys: Mapping[str, str], locked: Mapping[str, Any]
) -> Bytes:
    """Give every stage its forecast, the locked one where it is of the same keys; return that of all end to end."""
    known = locked.get("keys", {})
    if known == keys:
        for stage, facts in zip(stages, locked["stages"], strict=True):
            stage.forecast = Forecast(Bytes(facts["peak"], facts["by_category"]), facts["pieces"])
    else:
        below = list[StageModule]()
        for stage in stages:
            if stage.together[0] == stage.index - 1:
                members = [stages[position] for position in stage.together]
                shared = within_limit(limit, [member.built for member in members], below)
                for member in members:
                    member.forecast = shared
            below = [] if stage.policy.write else [*below, stage.built.module]
    if known.get("memory") == keys["memory"]:
        return Bytes(**locked["end_to_end"])
    return forecast([end_to_end([stage.built for stage in stages])], [])
