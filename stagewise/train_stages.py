"""From a plan to a training: of one stage, or of several in sync; what it leaves behind are final weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stagewise.datasets.base import Dataset
from stagewise.datasets.images import Images
from stagewise.inputs import input_of
from stagewise.modules.geometry import Geometry
from stagewise.objectives.base import Supervised
from stagewise.planning.build import make_trainee, start_of
from stagewise.planning.check import too_short, too_small
from stagewise.planning.plan import Plan
from stagewise.planning.stage_plan import StagePlan
from stagewise.planning.trained_on import few_items, held_out, trainable
from stagewise.planning.weights import weights_below
from stagewise.runs.record import mark_trained
from stagewise.runs.verdict import unmoved
from stagewise.show import counted
from stagewise.stopping import Stop
from stagewise.training.job import VALIDATION_WINDOWS, Job, Member, Progress
from stagewise.training.train import Training
from stagewise.windows.classes import Classes
from stagewise.windows.crops import Crops
from stagewise.windows.draw import Windows
from stagewise.windows.source import RawSource, Source

Ints = npt.NDArray[np.int64]
Report = Callable[..., None]


def train_stages(plan: Plan, together: range, stop: Stop, report: Report) -> None:
    """Train stages and leave in each one's folder its weights, its metrics and `trained.json`.

    Args:
        plan: which holds them.
        together: their positions.
        stop: asked after every step.
        report: told what happens.

    Raises:
        StagewiseError: anything a user can act on.
    """
    assert isinstance(plan.size, Dataset)
    stages = [plan.stages[position] for position in together]
    top, config, seed = stages[-1], stages[-1].built.config.train, plan.pipeline.pipeline.seed
    source, below = input_of(plan, together[0])
    geometry = sum((module.geometry for module in below), Geometry())
    members = []
    for stage in stages:
        stage.built.module.to(plan.device)
        stage.built.objective.to(plan.device)
        geometry += stage.built.module.geometry
        members.append(_member(plan, stage, geometry, top.forecast.pieces))
    built = [stage.built for stage in stages]
    unlabelled = len(plan.size.pool()) - len(trainable(plan.size, built))
    if unlabelled > 0:
        without = counted(unlabelled, "item is", "items are")
        report("note", text=f"stage {top.name}: {without} left out, without the label that is needed.")
    train, held = held_out(plan.size, built, plan.pipeline.data.validation, seed)
    train = (train[:, None] + np.arange(plan.size.views)).ravel()  # a mirror image is no new image to be tested on
    windows = _windows(plan.size, source, top, geometry, train, config.windows_per_item)
    epochs = max(stage.built.epochs for stage in stages)
    if not epochs and config.epochs:
        report("note", text=f"stage {top.name}: nothing in it can be trained: it is frozen as it is.")
    windows, validation = _validation(plan, source, top, geometry, windows, held, report)
    short = _too_short(plan.size, windows, top, geometry, epochs, report)
    job = Job(
        members=members,
        seed=seed,
        source=source,
        below=below,
        windows=windows,
        validation=validation,
        batch_size=config.batch_size,
        epochs=epochs,
        patience=config.patience,
        checkpoint=config.checkpoint,
        device=plan.device,
        keys=plan.size.keys,
        weights_below=weights_below(plan.stages, top) or "",
        noise=config.noise,
    )
    starts = {stage.name: start_of(plan.pipeline, stage.built, plan.device) for stage in stages}
    training = Training(job, stop, report)
    progress = training.run()
    few = few_items(plan.size, built) if epochs else ""
    for stage in stages:
        warnings = progress.health[stage.name]["warnings"]
        if stage.built.epochs:
            warnings += filter(None, [few, unmoved(progress.history[stage.name], progress.best_epoch)])
        for text in warnings:
            report("note", text=f"stage {stage.name}: {text}.")
        if stage.record is not None:
            continue  # a kill came between two commits, and what was trained is there
        assert stage.folder is not None
        assert stage.fingerprint is not None
        assert stage.identity is not None
        facts = _facts(stage, progress, training.converged, len(windows.items), short, len(stages))
        facts["train"]["start"] = starts[stage.name]
        mark_trained(stage.folder, stage.fingerprint, stage.identity, facts | {"below": job.weights_below})


def _member(plan: Plan, stage: StagePlan, geometry: Geometry, pieces: int) -> Member:
    assert isinstance(plan.size, Dataset)
    assert stage.folder is not None
    objective, classes = stage.built.objective, None
    if isinstance(objective, Supervised):
        classes = Classes(plan.size, objective.labels, stage.built.geometry)
    trainee = make_trainee(plan.pipeline, stage.built, pieces)
    every = stage.built.config.train.every
    return Member(stage.name, stage.folder, trainee, geometry, stage.built.rows, every, classes)


def _windows(
    dataset: Dataset, source: Source, top: StagePlan, geometry: Geometry, items: Ints, per_item: Any
) -> Windows | Crops:
    """Return the windows of some items; those for validation (without `per_item`) are the same in every epoch."""
    rows = top.built.rows
    if top.built.grid is None:
        return Windows(items, source.lengths, geometry, rows, VALIDATION_WINDOWS if per_item is None else per_item)
    assert dataset.grids is not None
    pixels = per_item is not None and isinstance(source, RawSource)
    return Crops(items, dataset.grids, top.built.grid, per_item or 1, pixels)


def _validation(
    plan: Plan,
    source: Source,
    top: StagePlan,
    geometry: Geometry,
    windows: Windows | Crops,
    held: Ints,
    report: Report,
) -> tuple[Windows | Crops, Windows | Crops]:
    """Return the windows of training and of validation: of the items held out, or of the end of the only recording."""
    assert isinstance(plan.size, Dataset)
    fraction, epochs = plan.pipeline.data.validation, top.built.config.train.epochs
    if len(held) or not fraction or not epochs:
        return windows, _windows(plan.size, source, top, geometry, held, None)
    if isinstance(windows, Windows):
        only = replace(windows, items=windows.items[windows.starts > 0])
        if (parts := only.split_end(fraction, VALIDATION_WINDOWS)) is not None:
            report("note", text=f"stage {top.name}: the end of the only recording is held out, to tell when to stop.")
            return replace(parts[0], items=windows.items), parts[1]
    report("note", text=f"stage {top.name}: nothing can be held out: the training loss tells when to stop.")
    return windows, _windows(plan.size, source, top, geometry, held, None)


def _too_short(
    dataset: Dataset, windows: Windows | Crops, top: StagePlan, geometry: Geometry, epochs: int, report: Report
) -> int:
    """Count the training items that no window fits into.

    Raises:
        DataError: it fits into none.
    """
    short, items, config = int((windows.starts == 0).sum()), len(windows.items), top.built.config
    if epochs and not windows.steps(config.train.batch_size):
        if isinstance(windows, Crops):
            assert isinstance(dataset, Images)
            raise too_small(top, dataset, windows.items)
        raise too_short(top, geometry, max(windows.lengths[windows.items], default=0))
    if short:
        report(
            "note",
            text=f"stage {top.name}: too short for a window of {windows.rows} rows, and encoded but not trained on: "
            f"{short} of {counted(items, 'training item')}.",
        )
    return short


def _facts(
    stage: StagePlan, progress: Progress, converged: bool, items: int, short: int, together: int
) -> dict[str, Any]:
    """Return what a stage's record says of its training; what several shared is divided equally."""
    history = progress.history[stage.name]
    first, last, best = history[0], history[-1], history[progress.best_epoch]
    chosen = best.get("validation_loss", best.get("loss"))
    again = progress.scored_again.get(stage.name, {})
    return {
        "train": {
            "epochs": progress.epoch,
            "steps": progress.steps,
            "seconds": progress.seconds / together,
            "initial_loss": first.get("validation_loss"),
            "loss": last.get("loss", first.get("validation_loss")),
            "validation_loss": again.get("loss", chosen),
            "chosen_loss": chosen,
            "information": again.get("information", best.get("validation_information")),
            "best_epoch": progress.best_epoch,
            "converged": converged,
            "data_wait_seconds": progress.waited / together,
            "items": items,
            "skipped_items": short,
        },
        "memory": {
            "predicted_peak_bytes": stage.forecast.bytes.peak,
            "measured_peak_bytes": progress.peak_bytes,
            "pieces": stage.forecast.pieces,
            "by_category": stage.forecast.bytes.by_category,
        },
        "health": progress.health[stage.name],
    }
