"""Training steps of the shipped pipelines: as long as `plan` reckons them, and as long as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from report import Table
from timing import interleaved

from stagewise.objectives.base import Supervised
from stagewise.pipeline import load_pipeline
from stagewise.planning.build import make_trainee
from stagewise.planning.duration import durations
from stagewise.planning.stage_plan import StageOutline
from stagewise.runner import outline_pipeline
from stagewise.runs.folder import RunFolder
from stagewise.training.step import Member, place_windows, train_together
from stagewise.training.windows import Batch

PIPELINES = Path(__file__).parents[2] / "pipelines"
NAMES = ("quickstart", "digits", "librispeech", "librispeech-cpc", "stl10")  # none needs data that is not there
ALONE = ["pipeline.schedule=iterative", "defaults.store.write=true"]  # nothing is computed again below


def main(runs: int) -> Iterator[Table]:
    torch.set_num_threads(1)
    rows = []
    for name in NAMES:
        pipeline = load_pipeline(PIPELINES / f"{name}.toml", ALONE)
        plan = outline_pipeline(pipeline, RunFolder(Path("nowhere")))
        for stage, estimated in zip(plan.stages, durations(plan), strict=True):
            if any(True for _ in stage.built.module.parameters()):
                trainee = make_trainee(stage.built)
                times = interleaved({"step": step_of(trainee, stage)}, min(runs, 5), warm=1)["step"]
                error = f"{estimated.step / times.median:.2f}"
                rows.append([name, stage.name, stage.built.module.z_channels, times, f"{estimated.step:.3g} s", error])
    yield Table(
        ["pipeline", "stage", "channels", "a step", "as estimated", "estimated / real"],
        rows,
        ["Batches of the pipeline, rows at random, one thread; without reading and without what is computed again."],
    )


def step_of(trainee: object, stage: StageOutline) -> Callable[[], None]:
    """Return a training step on rows at random."""
    built, batch = stage.built, stage.built.config.train.batch_size
    zeros_B, geometry = np.zeros(batch, np.int64), built.module.geometry
    if built.grid is None:
        skip = -(geometry.first // geometry.hop)
        drawn = Batch(zeros_B, zeros_B, (skip,) * batch, geometry.window_span(built.rows), built.rows)
    else:
        drawn = Batch(zeros_B, zeros_B, (0,) * batch, built.rows, built.rows, built.grid)
    where = place_windows([Member(stage.name, Path(), trainee, geometry, built.rows)], drawn, 0)
    first, *patch = built.module.in_shape
    y = None
    if isinstance(built.objective, Supervised):
        y = torch.zeros((batch, built.rows) if built.objective.per_row else (batch,), dtype=torch.int64)

    def step() -> None:
        x_BCT = torch.randn(batch, drawn.span, *patch, first).movedim(-1, 1)
        train_together([trainee], x_BCT, where, [torch.Generator().manual_seed(0)], [y], [True])

    return step
