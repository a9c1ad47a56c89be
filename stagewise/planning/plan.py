"""The plan: for every stage what would be done and why, its memory, its store; made before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stagewise.config import Pipeline, to_json
from stagewise.config.fingerprint import differences, fingerprint
from stagewise.datasets.base import Dataset, Expected
from stagewise.errors import IntegrityError
from stagewise.memory.tracker import Bytes
from stagewise.modules.stage_module import StageModule
from stagewise.planning.build import BuiltStage, end_to_end
from stagewise.planning.identity import stage_identity
from stagewise.planning.memory import Forecast, forecast, within_limit
from stagewise.planning.policy import Policy, decide, total_rows
from stagewise.runs.folder import RunFolder
from stagewise.runs.record import read_record

SPARE_DISK = 0.9  # of the free bytes may be planned with
WIDTH = {"float32": 4, "float16": 2, "int8": 1}


@dataclass
class StagePlan:
    """What becomes of one stage.

    Attributes:
        index: 1 for the first stage.
        built: its modules at their random start.
        policy: of its store.
        forecast: memory of its training step.
        rows: of the whole data set.
        identity: what its result depends on; None while the data is not there.
        fingerprint: of the identity.
        folder: where it lives; None while the data is not there.
        record: its commit record, if it is done.
        action: "train", "resume", "encode", "recompute" (done; rows are computed again for the stage above)
            or "cached".
        reason: why, in words.
    """

    index: int
    built: BuiltStage
    policy: Policy
    forecast: Forecast
    rows: int
    identity: dict[str, Any] | None = None
    fingerprint: str | None = None
    folder: Path | None = None
    record: dict[str, Any] | None = None
    action: str = "train"
    reason: str = "not trained yet"

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.built.config.name

    @property
    def store_state(self) -> str:
        """What the contract calls its store: written, recomputed or dropped."""
        if self.record is not None and self.action != "encode":
            return str(self.record["store"]["state"])
        return "written" if self.policy.write else "recomputed"

    def store_bytes(self, dtype: str | None = None) -> int:
        """Uncompressed bytes of the rows, in the stage's dtype or another."""
        return self.rows * self.built.module.out_channels * WIDTH[dtype or self.built.config.store.dtype]


@dataclass
class Plan:
    """Everything that is known before anything runs."""

    pipeline: Pipeline
    run: RunFolder
    device: torch.device
    size: Dataset | Expected
    stages: list[StagePlan]
    end_to_end: Bytes
    disk_free: int
    keys: dict[str, str]

    def locked(self) -> dict[str, Any]:
        """What `pipeline.lock.json` keeps: the pipeline, and the decisions, so that they stay as they are."""
        return {
            "format": 1,
            "pipeline": to_json(self.pipeline),
            "device": self.device.type,
            "keys": self.keys,
            "input": {name: getattr(self.size, name) for name in ("channels", "sample_rate", "mean", "std")},
            "end_to_end": {"peak": self.end_to_end.peak, "by_category": self.end_to_end.by_category},
            "stages": [
                {
                    "index": stage.index,
                    "name": stage.name,
                    "fingerprint": stage.fingerprint,
                    "folder": stage.folder and stage.folder.name,
                    "precision": stage.built.precision,
                    "parameters": sum(p.numel() for p in stage.built.module.parameters()),
                    "channels": stage.built.module.out_channels,
                    "rows": stage.rows,
                    "policy": vars(stage.policy),
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
    size: Dataset | Expected,
) -> Plan:
    """Plan a pipeline against what its run directory already holds.

    Args:
        pipeline: validated.
        run: the run directory; it need not exist.
        built: the pipeline's stages.
        device: where they would be trained.
        size: the data set, or its expected size while it is not there.

    Raises:
        ConfigError: a limit cannot be met.
        IntegrityError: something the run directory holds is damaged.
    """
    lengths = _lengths(size)
    rows = [total_rows(lengths, stage) for stage in built]
    locked = run.locked or {}
    keys = _keys(pipeline, built, rows)
    free = _free(run.path) + _stored(run.path)  # a store that is there needs no more room
    policies = _policies(pipeline, built, rows, locked, keys, int(free * SPARE_DISK))
    forecasts = _forecasts(pipeline, built, policies, locked, keys)
    if locked.get("keys", {}).get("memory") == keys["memory"]:
        whole = Bytes(**locked["end_to_end"])
    else:
        whole = forecast(pipeline, end_to_end(list(built)), [])
    stages = [StagePlan(i, *parts) for i, parts in enumerate(zip(built, policies, forecasts, rows, strict=True), 1)]
    if isinstance(size, Dataset):
        _identify(pipeline, run, stages, size.fingerprint())
        _choose_actions(stages)
    else:
        for stage in stages:
            stage.reason = "the data is not there yet"
    return Plan(pipeline, run, device, size, stages, whole, free, keys)


def _lengths(size: Dataset | Expected) -> npt.NDArray[np.int64]:
    if isinstance(size, Dataset):
        return size.lengths
    return np.full(size.items, size.samples // max(1, size.items), np.int64)


def _free(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _stored(path: Path) -> int:
    files = path.glob("stages/*/store.zarr/**/*")
    return sum(file.stat().st_size for file in files if file.is_file())


def _keys(pipeline: Pipeline, built: Sequence[BuiltStage], rows: Sequence[int]) -> dict[str, str]:
    """Hash what the two kinds of decisions depend on, so that they are taken once and kept."""
    networks = [stage.config.model_dump(mode="json", exclude={"train", "store"}) for stage in built]
    stores = [stage.config.store.model_dump(mode="json") for stage in built]
    trains = [stage.config.train.model_dump(mode="json") | {"precision": stage.precision} for stage in built]
    sizes = [sum(p.numel() for p in stage.module.parameters()) for stage in built]
    networks = [network | {"parameters": size} for network, size in zip(networks, sizes, strict=True)]
    disk = {"networks": networks, "stores": stores, "rows": list(rows), "limit": pipeline.pipeline.disk_limit}
    memory = {"networks": networks, "trains": trains, "limit": pipeline.pipeline.memory_limit}
    return {"disk": fingerprint(disk), "memory": fingerprint(memory)}


def _policies(
    pipeline: Pipeline,
    built: Sequence[BuiltStage],
    rows: Sequence[int],
    locked: dict[str, Any],
    keys: dict[str, str],
    free: int,
) -> list[Policy]:
    if locked.get("keys", {}).get("disk") == keys["disk"]:
        return [Policy(**stage["policy"]) for stage in locked["stages"]]
    sizes = [
        n * stage.module.out_channels * WIDTH[stage.config.store.dtype] for n, stage in zip(rows, built, strict=True)
    ]
    return decide(pipeline, built, sizes, free)


def _forecasts(
    pipeline: Pipeline,
    built: Sequence[BuiltStage],
    policies: Sequence[Policy],
    locked: dict[str, Any],
    keys: dict[str, str],
) -> list[Forecast]:
    if all(locked.get("keys", {}).get(kind) == keys[kind] for kind in ("disk", "memory")):
        return [Forecast(Bytes(s["peak"], s["by_category"]), s["pieces"]) for s in locked["stages"]]
    forecasts, below = [], list[StageModule]()
    for stage, policy in zip(built, policies, strict=True):
        forecasts.append(within_limit(pipeline, stage, below))
        below = [] if policy.write else [*below, stage.module]
    return forecasts


def _identify(pipeline: Pipeline, run: RunFolder, stages: list[StagePlan], data: str) -> None:
    below = data
    for stage in stages:
        stage.identity = stage_identity(pipeline, stage.built, below, stage.policy)
        stage.fingerprint = below = fingerprint(stage.identity)
        stage.folder = run.stage(stage.index, stage.name, below)
        stage.record = read_record(stage.folder)


def _choose_actions(stages: list[StagePlan]) -> None:
    above_runs = False  # whether the stage above still needs this one's rows
    for stage in reversed(stages):
        assert stage.folder is not None
        if stage.record is None:
            resumable = (stage.folder / "checkpoint").exists()
            stage.action, stage.reason = ("resume", "interrupted") if resumable else _train_or_adopt(stage)
        elif stage.record["store"]["state"] == "dropped" and (above_runs or stage.built.config.store.keep):
            needed = "the stage above needs it" if above_runs else "it is to be kept now"
            stage.action, stage.reason = "encode", f"its store was dropped, and {needed}"
        elif above_runs and not stage.policy.write:
            stage.action, stage.reason = (
                "recompute",
                "trained; its rows are computed again for the stage above",
            )
        else:
            stage.action, stage.reason = "cached", "nothing changed"
        above_runs = stage.action != "cached"


def _train_or_adopt(stage: StagePlan) -> tuple[str, str]:
    """Look among a stage's older folders for weights that are still right, or for what changed since."""
    assert stage.folder is not None
    assert stage.identity is not None
    if adoptable(stage) is not None:
        return "encode", "only its store changed"
    known = [record for _, record in _older(stage)]
    if not known:
        return "train", "not trained yet"
    changes = min((list(differences(r["identity"]["train"], stage.identity["train"])) for r in known), key=len)
    below = [change for change in changes if change.startswith("below: ")]
    other = [change for change in changes if not change.startswith("below: ")]
    words = other[:3] + ([f"and {len(other) - 3} more"] if len(other) > 3 else [])
    if below:
        words.append("the data changed" if stage.index == 1 else "the stage below changed")
    return "train", "; ".join(words)


def adoptable(stage: StagePlan) -> Path | None:
    """Return an older folder of the stage whose weights were trained under the same identity."""
    assert stage.identity is not None
    wanted = stage.identity["train"]
    return next((folder for folder, record in _older(stage) if record["identity"]["train"] == wanted), None)


def _older(stage: StagePlan) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the done folders of a stage under any fingerprint; one that is damaged is no reason to stop."""
    assert stage.folder is not None
    for folder in RunFolder(stage.folder.parent.parent).earlier(stage.index, stage.name):
        with suppress(IntegrityError):
            record = read_record(folder, with_store=False)
            if record is not None:
                yield folder, record
