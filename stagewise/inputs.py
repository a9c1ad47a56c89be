"""What a stage is fed with: the nearest store below it, or the data, and the frozen stages between."""

from __future__ import annotations

from pathlib import Path

from stagewise.datasets.base import Dataset
from stagewise.modules.stage_module import StageModule
from stagewise.planning.plan import Plan
from stagewise.runs.record import WEIGHTS
from stagewise.stores import StoreReader
from stagewise.training.checkpoint import read_tensors, restore
from stagewise.windows.source import RawSource, Source, StoreSource


def input_of(plan: Plan, position: int) -> tuple[Source, list[StageModule]]:
    """Return the nearest store below a stage (or the data), and the frozen stages between."""
    below: list[StageModule] = []
    for stage in reversed(plan.stages[:position]):
        assert stage.folder is not None
        if stage.record is not None and stage.record["store"]["state"] == "written":
            return StoreSource(StoreReader(stage.folder)), below
        below.insert(0, load_weights(stage.built.module, stage.folder).to(plan.device))
    assert isinstance(plan.size, Dataset)
    return RawSource(plan.size), below


def load_weights(module: StageModule, folder: Path) -> StageModule:
    """Give a module the frozen weights of a stage's folder."""
    restore(
        {f"stage.{k}": v for k, v in read_tensors(folder / WEIGHTS).items()},
        {"stage": module},
        None,
    )
    return module.eval().requires_grad_(False)
