"""The memory of every stage's training step, and in how many pieces it must be computed to stay below a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stagewise.config import Pipeline
from stagewise.errors import ConfigError
from stagewise.memory.predict import predict_together
from stagewise.memory.tracker import Bytes
from stagewise.modules.geometry import Geometry
from stagewise.modules.stage_module import StageModule
from stagewise.planning.build import BuiltStage, make_trainee
from stagewise.planning.policy import forward_flops
from stagewise.show import bytes_text
from stagewise.training.job import Member
from stagewise.training.step import batch_dependent
from stagewise.training.together import places
from stagewise.windows.draw import Batch

SMALL = 2e10  # multiply-adds of a step that is computed to see its memory: some tenths of a second


@dataclass(frozen=True)
class Forecast:
    """The predicted peak of a training step, and the pieces it is computed in."""

    bytes: Bytes
    pieces: int


def forecast(pipeline: Pipeline, stages: Sequence[BuiltStage], below: Sequence[StageModule], pieces: int = 1) -> Bytes:
    """Predict the peak of a training step of stages in sync (or of one), on windows read `below` some frozen ones."""
    top, batch = stages[-1], stages[-1].config.train.batch_size
    noise = any(stage.config.train.noise > 0 for stage in stages)
    members, geometry = [], sum((module.geometry for module in below), Geometry())
    for stage in stages:
        geometry += stage.module.geometry
        trainee = make_trainee(pipeline, stage, pieces)
        members.append(Member(stage.config.name, Path(), trainee, geometry, stage.rows))
    zeros_B = np.zeros(batch, np.int64)
    if top.grid is None:
        skip = -(geometry.first // geometry.hop)  # of a window that does not touch an item's beginning
        drawn = Batch(zeros_B, zeros_B, (skip,) * batch, geometry.window_span(top.rows), top.rows)
    else:
        drawn = Batch(zeros_B, zeros_B, (0,) * batch, top.rows, top.rows, top.grid)
    row = (below[0] if below else stages[0].module).in_shape
    shape = (batch, row[0], drawn.span, *row[1:])
    try:
        small = 3 * batch * sum(map(_work, stages)) < SMALL
        return predict_together([m.trainee for m in members], below, shape, places(members, drawn, 0), small, noise)
    except ValueError as error:  # an objective that cannot score such windows
        where = pipeline.where(f"stage.{top.config.name}.objective")
        raise ConfigError(f"{where}: {error}. Change it, or the window, crop or batch that it is given.") from error


def _work(stage: BuiltStage) -> float:
    """Count multiply-adds of a window: the network's, and an objective's that takes each row by each of its weights."""
    return forward_flops(stage) + stage.rows * sum(p.numel() for p in stage.objective.parameters())


def within_limit(pipeline: Pipeline, stages: Sequence[BuiltStage], below: Sequence[StageModule]) -> Forecast:
    """Find the fewest pieces under which a step stays below `pipeline.memory_limit`.

    Raises:
        ConfigError: there is no such number; says what to change.
    """
    limit, batch = pipeline.pipeline.memory_limit, stages[-1].config.train.batch_size
    predicted = forecast(pipeline, stages, below)
    if limit is None or predicted.peak <= limit:
        return Forecast(predicted, 1)
    where = pipeline.where(f"stage.{stages[-1].config.name}")
    if layers := [name for stage in stages for name in batch_dependent(stage.module)]:
        raise ConfigError(
            f"{where}: a step needs {bytes_text(predicted.peak)}, more than pipeline.memory_limit = "
            f"{bytes_text(limit)}, and with {layers[0]} it cannot be computed in pieces with the same gradient. "
            f"Raise the limit, lower train.batch_size (now {batch}), or use a module without {layers[0]}."
        )
    least = predicted
    pieces = 2
    while pieces < 2 * batch:
        attempt = forecast(pipeline, stages, below, min(pieces, batch))
        if attempt.peak <= limit:
            return Forecast(attempt, min(pieces, batch))
        least = min(least, attempt, key=lambda b: b.peak)
        pieces *= 2
    largest = max(least.by_category, key=lambda name: least.by_category[name])
    raise ConfigError(
        f"{where}: even in pieces a step needs {bytes_text(least.peak)}, more than pipeline.memory_limit = "
        f"{bytes_text(limit)}; most of it is {largest} ({bytes_text(least.by_category[largest])}). "
        f"Raise pipeline.memory_limit to {bytes_text(least.peak * 1.05)}, or lower train.batch_size (now {batch}), "
        f"{'data.crop' if stages[-1].grid else 'objective.window'}, objective.steps or the channels, or split the "
        "stage in two."
    )
