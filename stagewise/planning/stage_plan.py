"""What becomes of one stage: its memory, and in how many pieces; its store, its fingerprint, what is to be done."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stagewise.errors import ConfigError
from stagewise.modules.geometry import Geometry
from stagewise.modules.stage_module import StageModule
from stagewise.planning.build import BuiltStage, make_trainee
from stagewise.planning.stores import WIDTH, Policy, forward_flops
from stagewise.text import bytes_text
from stagewise.training.memory_forecast import predict_together
from stagewise.training.memory_measured import Bytes
from stagewise.training.step import Member, batch_dependent, place_windows
from stagewise.training.windows import Batch

# The memory of every stage's training step, and in how many pieces it must be computed to stay below a limit.

SMALL = 2e10  # multiply-adds of a step that is computed to see its memory: some tenths of a second


@dataclass(frozen=True)
class Forecast:
    """The predicted peak of a training step, and the pieces it is computed in."""

    bytes: Bytes
    pieces: int


def forecast(stages: Sequence[BuiltStage], below: Sequence[StageModule], pieces: int = 1) -> Bytes:
    """Predict the peak of a training step of stages in sync (or of one), on windows read `below` some frozen ones."""
    top, batch = stages[-1], stages[-1].config.train.batch_size
    noise = any(stage.config.train.noise > 0 for stage in stages)
    members, geometry = [], sum((module.geometry for module in below), Geometry())
    for stage in stages:
        geometry += stage.module.geometry
        trainee = make_trainee(stage, pieces)
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
        return predict_together(
            [m.trainee for m in members], below, shape, place_windows(members, drawn, 0), small, noise
        )
    except ValueError as error:  # an objective that cannot score such windows
        raise ConfigError(
            f"{top.where('objective')}: {error}. Change it, or the window, crop or batch that it is given."
        ) from error


def _work(stage: BuiltStage) -> float:
    """Count multiply-adds of a window: the network's, and an objective's that takes each row by each of its weights."""
    return forward_flops(stage) + stage.rows * sum(p.numel() for p in stage.objective.parameters())


def within_limit(limit: int | None, stages: Sequence[BuiltStage], below: Sequence[StageModule]) -> Forecast:
    """Find the fewest pieces under which a step stays below `pipeline.memory_limit`.

    Raises:
        ConfigError: there is no such number; says what to change.
    """
    batch, predicted = stages[-1].config.train.batch_size, forecast(stages, below)
    if limit is None or predicted.peak <= limit:
        return Forecast(predicted, 1)
    where = stages[-1].where("")
    if layers := [name for stage in stages for name in batch_dependent(stage.module)]:
        raise ConfigError(
            f"{where}: a step needs {bytes_text(predicted.peak)}, more than pipeline.memory_limit = "
            f"{bytes_text(limit)}, and with {layers[0]} it cannot be computed in pieces with the same gradient. "
            f"Raise the limit, lower train.batch_size (now {batch}), or use a module without {layers[0]}."
        )
    least = predicted
    pieces = 2
    while pieces < 2 * batch:
        attempt = forecast(stages, below, min(pieces, batch))
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


# What becomes of one stage: what is known without its data, and what is to be done with it.


@dataclass
class StageOutline:
    """What is known of a stage before its data is there.

    Attributes:
        index: 1 for the first stage.
        built: its modules at their random start; nothing changes them.
        policy: of its store.
        rows: of the whole data set.
        together: positions of the stages that it is trained in sync with, its own among them.
        forecast: memory of its training step; made last, when it is known what trains together.
        action: "train", "resume", "encode", "recompute" (done; rows are computed again for the stage above)
            or "cached".
        reason: why, in words.
    """

    index: int
    built: BuiltStage
    policy: Policy
    rows: int
    together: range
    forecast: Forecast = field(init=False)
    action: str = "train"
    reason: str = "the data is not there yet"

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.built.config.name

    @property
    def store_state(self) -> str:
        """What the contract calls its store: written, recomputed or dropped."""
        return "written" if self.policy.write else "recomputed"

    def store_bytes(self, dtype: str | None = None) -> int:
        """Uncompressed bytes of the rows, in the stage's dtype or another."""
        return self.rows * math.prod(self.built.row_shape) * WIDTH[dtype or self.built.config.store.dtype]


@dataclass(kw_only=True)
class StagePlan(StageOutline):
    """What becomes of a stage whose data is there.

    Attributes:
        identity: what its result depends on.
        fingerprint: of the identity.
        folder: where it lives.
        record: its commit record, if it is done.
    """

    identity: dict[str, Any]
    fingerprint: str
    folder: Path
    record: dict[str, Any] | None

    @property
    def store_state(self) -> str:
        """What the contract calls its store: written, recomputed or dropped."""
        if self.record is not None and self.action != "encode":
            return str(self.record["store"]["state"])
        return super().store_state
