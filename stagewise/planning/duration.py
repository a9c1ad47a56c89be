"""About how long stages and probes will take, known before anything runs: their work over the speed that was measured.

A training step takes `step` seconds for its own sake, some for its multiply-adds, and some for the bytes of its peak,
each of which is gone over several times. On a core with AVX-512 this came to 0.77 to 1.59 times the real steps of the
shipped pipelines, from 32 channels to 1024 (`python tests/benchmarks durations`); other machines differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import torch

from stagewise.datasets.base import Dataset, Expected
from stagewise.pipeline import Probe
from stagewise.planning.check import held_out
from stagewise.planning.plan import Outline, Plan
from stagewise.planning.stage_plan import StageOutline, StagePlan
from stagewise.planning.stores import forward_flops, nearest_store, recomputing
from stagewise.runs.records import epochs_done
from stagewise.training.windows import Crops, Windows


@dataclass(frozen=True)
class Speed:
    """What time is estimated from.

    Attributes:
        step: seconds of a step that does nothing.
        products: multiply-adds a second.
        memory: bytes of a step's peak a second.
    """

    step: float
    products: float
    memory: float


THREAD = Speed(4e-3, 80e9, 0.8e9)  # one of a CPU
GPU = Speed(4e-3, 4e12, 50e9)  # a guess: none was measured
FIT_STEP, FIT_EXAMPLE = 0.7e-3, 5e-6  # seconds: of a probe's step for its own sake, and of reading an example


@dataclass(frozen=True)
class Duration:
    """How long a stage is estimated to take, in seconds.

    Attributes:
        step: one training step, with what is computed again for it and what is read.
        train: all steps of all epochs.
        encode: writing its store.
    """

    step: float
    train: float
    encode: float


class Fit(Protocol):
    """A probe on one stage that is to be fitted."""

    @property
    def probe(self) -> Probe:
        """As in the pipeline file."""

    @property
    def position(self) -> int:
        """Of the stage."""

    @property
    def dataset(self) -> Dataset | Expected:
        """Whose labels are predicted."""

    @property
    def random(self) -> bool:
        """Whether the stage is at its random start."""


class _Expected(NamedTuple):
    probe: Probe
    position: int
    dataset: Dataset | Expected
    random: bool


@dataclass(frozen=True)
class Estimate:
    """How long everything takes that is still to be made, in seconds.

    Attributes:
        stages: each one's time.
        probes: reading rows for them, and fitting them.
    """

    stages: Sequence[Duration]
    probes: float

    @property
    def seconds(self) -> float:
        """Of all of it."""
        return sum(stage.train + stage.encode for stage in self.stages) + self.probes


def estimate(plan: Outline, fits: Sequence[Fit] | None = None) -> Estimate:
    """Estimate all stages and probes: the one number that `init`, `plan` and `run` tell.

    Args:
        plan: of the pipeline.
        fits: probes that are not there yet; all that the pipeline asks for when left out.
    """
    return Estimate(durations(plan), _probing(plan, _all_fits(plan) if fits is None else fits))


def speed_of(device: torch.device) -> Speed:
    """Return the speed of this machine."""
    if device.type != "cpu":
        return GPU
    threads = torch.get_num_threads()
    return Speed(THREAD.step, THREAD.products * threads, THREAD.memory * threads)


def durations(plan: Outline) -> list[Duration]:
    """Estimate what is still to be done for every stage, at most: training may converge before the last epoch.

    Of data that is not there, all items count as training items.
    """
    stages, speed, reading = plan.stages, speed_of(plan.device), plan.data.reading_seconds
    if all(stage.action in ("cached", "recompute") for stage in stages):
        return [Duration(0.0, 0.0, 0.0)] * len(stages)
    flops = [forward_flops(stage.built) for stage in stages]
    alone = [_step(stage, flop, speed) for stage, flop in zip(stages, flops, strict=True)]
    found = []
    for position, stage in enumerate(stages):
        top, config = stages[stage.together[-1]], stage.built.config.train
        low = nearest_store([s.policy for s in stages], stage.together[0])
        again = recomputing([s.built for s in stages], flops, stage.together[-1], low) / len(stage.together)
        step = alone[position] + config.batch_size * again / speed.products
        if low == 0:
            step += config.batch_size * reading / len(stage.together)
        most = max(stages[member].built.epochs for member in stage.together)
        epochs = {"train": most, "resume": max(0, most - _behind(top))}.get(stage.action, 0)
        train = step * epochs * _steps(plan, top) if epochs else 0.0
        encode = 0.0
        if stage.policy.write and stage.action in ("train", "resume", "encode"):
            low = nearest_store([s.policy for s in stages], position)
            encode = sum(_pass(stages[p], alone[p]) for p in range(low, position + 1))
            encode += reading * len(plan.data) if low == 0 else 0.0
        found.append(Duration(step, train, encode))
    return found


def to_make(plan: Outline, until: str | None = None, only: str | None = None) -> dict[str, Duration]:
    """Estimate the stages that are to be made, up to one or of one alone, by name."""
    estimated = {}
    for stage, time in zip(plan.stages, durations(plan), strict=True):
        if only in (None, stage.name) and time.train + time.encode:
            estimated[stage.name] = time
        if stage.name in (until, only):
            break
    return estimated


def _steps(plan: Outline, top: StageOutline) -> int:
    """Count the steps of an epoch of a stage, or of those in sync below it."""
    config, built, items = top.built.config.train, top.built, np.arange(len(plan.data))
    if isinstance(plan, Plan):
        members = [plan.stages[position].built for position in top.together]
        items, _ = held_out(plan.data, members, plan.pipeline.data.validation, plan.pipeline.pipeline.seed)
        if built.grid is not None:
            assert plan.data.grids is not None
            views = (items[:, None] + np.arange(plan.data.views)).ravel()
            crops = Crops(views, plan.data.grids, built.grid, int(config.windows_per_item), False)
            return crops.steps(config.batch_size)
    elif built.grid is not None:
        return max(1, len(items) * int(config.windows_per_item) // config.batch_size)
    windows = Windows(items, plan.data.lengths, built.geometry, built.rows, config.windows_per_item)
    return windows.steps(config.batch_size)


def _step(stage: StageOutline, flops: float, speed: Speed) -> float:
    """Estimate a training step of a stage on rows that are there: three forward passes' work, and the objective's."""
    built = stage.built
    steps = getattr(built.objective, "steps", 1)
    scores = built.rows * steps * built.module.z_channels * built.module.c_channels
    work = 3 * built.config.train.batch_size * (flops + scores)
    return speed.step + work / speed.products + stage.forecast.bytes.peak / speed.memory


def _pass(stage: StageOutline, step: float) -> float:
    """Estimate a forward pass over all rows: a third of a step for as many."""
    return stage.rows / (stage.built.rows * stage.built.config.train.batch_size) * step / 3


def _all_fits(plan: Outline) -> list[Fit]:
    stages = list(enumerate(stage.name for stage in plan.stages))
    return [
        _Expected(probe, position, plan.data, random)
        for probe in plan.pipeline.probe
        for position, name in stages
        if probe.stages == "all" or name in probe.stages
        for random in ((True, False) if probe.random and plan.is_trained(position) else (False,))
    ]


def _probing(plan: Outline, fits: Sequence[Fit]) -> float:
    """Estimate reading rows for probes, in one pass for all of them, and fitting them."""
    if not fits:
        return 0.0
    speed = speed_of(plan.device)
    alone = [_pass(s, _step(s, forward_flops(s.built), speed)) for s in plan.stages]
    shared: dict[tuple[int, bool], set[int]] = {}
    seconds = 0.0
    for fit in fits:
        share = len(fit.dataset) / max(1, len(plan.data))
        stage, below = plan.stages[fit.position], set(range(fit.position + 1))
        if not fit.random and fit.dataset is plan.data:  # the nearest store is read
            below -= set(range(nearest_store([s.policy for s in plan.stages], fit.position)))
            below -= {fit.position} if stage.policy.write else set()
        shared.setdefault((id(fit.dataset), fit.random), set()).update(below)
        examples = len(fit.dataset) if fit.probe.pool else stage.rows * share
        steps = examples / fit.probe.batch_size
        seconds += fit.probe.epochs * (steps * FIT_STEP + examples * FIT_EXAMPLE)
    datasets = {id(fit.dataset): fit.dataset for fit in fits}
    for (key, _), computed in shared.items():
        dataset = datasets[key]
        share = len(dataset) / max(1, len(plan.data))
        seconds += share * sum(alone[position] for position in computed)
        if 0 in computed:
            seconds += dataset.reading_seconds * len(dataset)
    return seconds


def _behind(top: StageOutline) -> int:
    return (epochs_done(top.folder) or 0) if isinstance(top, StagePlan) else 0
