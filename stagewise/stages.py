"""Make one stage: its input, its training, its store and its record."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stagewise import durable
from stagewise.arrays import Ints
from stagewise.datasets.base import Dataset
from stagewise.datasets.images import Images
from stagewise.encoding.encode import Chain, Encoded, encode
from stagewise.environment import environment
from stagewise.errors import DiskFull, NumberError
from stagewise.modules.geometry import Geometry
from stagewise.modules.stage_module import StageModule
from stagewise.objectives.base import Supervised
from stagewise.planning.build import make_trainee, start_of
from stagewise.planning.changes import adoptable, weights_below
from stagewise.planning.check import few_items, held_out, too_short, too_small, trainable
from stagewise.planning.plan import Plan
from stagewise.planning.stage_plan import StagePlan
from stagewise.runs.facts import SATURATED
from stagewise.runs.records import COVERED, RECORD, TRAINED, WEIGHTS, mark_trained, read_trained
from stagewise.runs.verdict import unmoved
from stagewise.signals import Stop
from stagewise.stores import StoreReader, finished
from stagewise.stores.layout import STORE, list_files
from stagewise.text import bytes_text, counted
from stagewise.training.checkpoint import read_tensors, restore
from stagewise.training.feed import RawSource, Source, StoreSource
from stagewise.training.loop import Training
from stagewise.training.step import VALIDATION_WINDOWS, Job, Member, Progress, updates_after
from stagewise.training.windows import Classes, Crops, Windows

# What a stage is fed with: the nearest store below it, or the data, and the frozen stages between.


def input_of(plan: Plan, position: int) -> tuple[Source, list[StageModule]]:
    """Return the nearest store below a stage (or the data), and the frozen stages between."""
    below: list[StageModule] = []
    for stage in reversed(plan.stages[:position]):
        if stage.record is not None and stage.record["store"]["state"] == "written":
            return StoreSource(StoreReader(stage.folder)), below
        below.insert(0, frozen(stage, plan.device))
    return RawSource(plan.data), below


def frozen(stage: StagePlan, device: torch.device) -> StageModule:
    """Return a stage with the weights that its folder holds, on a device; the plan's own copy stays as it is."""
    return load_weights(deepcopy(stage.built.module), stage.folder).to(device)


def load_weights(module: StageModule, folder: Path) -> StageModule:
    """Give a module the frozen weights of a stage's folder."""
    weights = {f"stage.{name}": tensor for name, tensor in read_tensors(folder / WEIGHTS).items()}
    restore(weights, {"stage": module}, None)
    return module.eval().requires_grad_(False)


# From a plan to a training: of one stage, or of several in sync; what it leaves behind are final weights.

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
    stages = [plan.stages[position] for position in together]
    top, config, seed = stages[-1], stages[-1].built.config.train, plan.pipeline.pipeline.seed
    source, below = input_of(plan, together[0])
    geometries = [sum((module.geometry for module in below), Geometry())]
    for stage in stages:
        geometries.append(geometries[-1] + stage.built.module.geometry)
    geometry, built = geometries[-1], [stage.built for stage in stages]
    unlabelled = len(plan.data.pool()) - len(trainable(plan.data, built))
    if unlabelled > 0:
        without = counted(unlabelled, "item is", "items are")
        report("note", text=f"stage {top.name}: {without} left out, without the label that is needed.")
    train, held = held_out(plan.data, built, plan.pipeline.data.validation, seed)
    train = (train[:, None] + np.arange(plan.data.views)).ravel()  # a mirror image is no new image to be tested on
    windows = _windows(plan.data, source, top, geometry, train, config.windows_per_item)
    epochs = max(stage.built.epochs for stage in stages)
    if not epochs and config.epochs:
        report("note", text=f"stage {top.name}: nothing in it can be trained: it is frozen as it is.")
    windows, validation = _validation(plan, source, top, geometry, windows, held, report)
    short = _too_short(plan.data, windows, top, geometry, epochs, report)
    if epochs and windows.count < config.batch_size:
        words = f"batches hold {counted(windows.count, 'window')}, as there are no more; train.batch_size asks for more"
        report("note", text=f"stage {top.name}: {words}.")
    steps = epochs * windows.steps(config.batch_size)
    job = Job(
        members=[
            _member(plan, stage, seen, top.forecast.pieces, steps)
            for stage, seen in zip(stages, geometries[1:], strict=True)
        ],
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
        keys=plan.data.keys,
        weights_below=weights_below(plan.stages, top) or "",
        noise=config.noise,
    )
    starts = {stage.name: start_of(seed, stage.built, plan.device) for stage in stages}
    training = Training(job, stop, report)
    progress = training.run()
    few = few_items(plan.data, built) if epochs else ""
    for stage in stages:
        warnings = progress.health[stage.name]["warnings"]
        if stage.built.epochs:
            again = progress.scored_again.get(stage.name)
            warnings += filter(None, [few, unmoved(progress.history[stage.name], progress.best_epoch, again)])
        for text in warnings:
            report("note", text=f"stage {stage.name}: {text}.")
        if stage.record is not None:
            continue  # a kill came between two commits, and what was trained is there
        facts = _facts(stage, progress, training.converged, len(windows.items), short, len(stages))
        facts["train"]["start"] = starts[stage.name]
        mark_trained(stage.folder, stage.fingerprint, stage.identity, facts | {"below": job.weights_below})


def _member(plan: Plan, stage: StagePlan, geometry: Geometry, pieces: int, steps: int) -> Member:
    objective, classes = stage.built.objective, None
    if isinstance(objective, Supervised):
        classes = Classes(plan.data, objective.labels, stage.built.geometry)
    built = replace(
        stage.built,
        module=deepcopy(stage.built.module).to(plan.device),
        objective=deepcopy(stage.built.objective).to(plan.device),
    )
    every = stage.built.config.train.every
    trainee = make_trainee(built, pieces, updates_after(steps, every))
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
    fraction, epochs = plan.pipeline.data.validation, top.built.config.train.epochs
    if len(held) or not fraction or not epochs:
        return windows, _windows(plan.data, source, top, geometry, held, None)
    if isinstance(windows, Windows):
        only = replace(windows, items=windows.items[windows.starts > 0])
        if (parts := only.split_end(fraction, VALIDATION_WINDOWS)) is not None:
            report("note", text=f"stage {top.name}: the end of the only recording is held out, to tell when to stop.")
            return replace(parts[0], items=windows.items), parts[1]
    report("note", text=f"stage {top.name}: nothing can be held out: the training loss tells when to stop.")
    return windows, _windows(plan.data, source, top, geometry, held, None)


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
            "initial_loss": next((r["validation_loss"] for r in history if "validation_loss" in r), None),
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


# Make one stage: train it (or adopt its weights), freeze it, encode the data set, and say what it cost.

EXACT = 20.0  # decibels from a channel's variance to that of its rounding in int8: below, a hundredth of it is noise
KEPT = ("train", "memory", "health", "below")  # what training leaves, whatever is encoded with the weights


def carry_out(plan: Plan, position: int, stop: Stop, report: Callable[..., None]) -> dict[str, Any]:
    """Make a stage inside its folder and return what its record says; nothing is committed here.

    Raises:
        StagewiseError: anything a user can act on.
    """
    stage = plan.stages[position]
    if stage.record is not None:
        facts = stage.record
    else:
        trained = read_trained(stage.folder, stage.fingerprint)
        if trained is None and stage.action == "encode" and (older := adoptable(plan.stages, stage)) is not None:
            trained = _adopt(older, stage)
        if trained is None:
            train_stages(plan, stage.together, stop, report)
            trained = read_trained(stage.folder, stage.fingerprint)
        assert trained is not None
        facts = trained
    source, below = input_of(plan, position)
    chain = Chain(source, [*below, frozen(stage, plan.device)], plan.device, stage.built.means)
    store = _encode(stage, chain, stop, report) if stage.policy.write else _not_written(stage)
    return {
        "index": stage.index,
        "name": stage.name,
        "fingerprint": stage.fingerprint,
        "identity": stage.identity,
        **{key: facts.get(key) for key in KEPT},
        "store": store,
        "environment": environment(plan.device),
    }


def _adopt(older: Path, stage: StagePlan) -> dict[str, Any] | None:
    """Take over the weights of an older folder."""
    for name in COVERED[:2]:
        durable.write_bytes(stage.folder / name, durable.read_bytes(older / name))
    name = RECORD if (older / RECORD).exists() else TRAINED
    record = durable.read_sealed(older / name, "")
    facts = {key: record.get(key) for key in KEPT}
    mark_trained(stage.folder, stage.fingerprint, stage.identity, facts)
    return read_trained(stage.folder, stage.fingerprint)


def _encode(stage: StagePlan, chain: Chain, stop: Stop, report: Callable[..., None]) -> dict[str, Any]:
    manifest = finished(stage.folder, stage.fingerprint)
    if manifest is None:
        if missing := _missing_bytes(stage):
            report(
                "note",
                text=f"stage {stage.name}: its store needs up to {bytes_text(missing)} more than the disk has left.",
            )
        try:
            encoded = encode(
                chain,
                stage.folder,
                stage.built.config.store.dtype,
                stage.policy.compress,
                stage.fingerprint,
                stop,
                lambda kind, **facts: report(kind, stage=stage.name, **facts),
            )
        except NumberError as error:
            raise NumberError(f"stage {stage.name}: {error}") from None
        except DiskFull as error:
            missing = _missing_bytes(stage)
            more = f" The rest of this store needs up to {bytes_text(missing)} more." if missing else ""
            raise DiskFull(f"{error}{more}") from error
    else:  # a kill came between the manifest and the record
        encoded = Encoded(manifest, 0.0, 0.0)
    manifest = encoded.manifest
    values = manifest.rows * math.prod(manifest.row_shape)
    if manifest.saturated > SATURATED * values:
        report(
            "note",
            text=f"stage {stage.name}: {manifest.saturated / values:.2%} of its values lie outside the range that int8 "
            "was calibrated for, and were cut to its ends. Are some items much louder, or brighter, than the others? "
            f'`--set stage.{stage.name}.store.dtype="float16"` keeps them as they are.',
        )
    worst = _worst_channel(stage, encoded, report)
    return {
        "state": "written",
        "why": stage.policy.why,
        "dtype": manifest.dtype,
        "compress": manifest.compress,
        "rows": manifest.rows,
        "bytes": manifest.bytes,
        "float32_bytes": manifest.float32_bytes,
        "saturated": manifest.saturated,
        "worst_channel": worst,
        "seconds": encoded.seconds,
        "forward_seconds": encoded.forward_seconds,
    }


def _worst_channel(stage: StagePlan, encoded: Encoded, report: Callable[..., None]) -> dict[str, Any] | None:
    """Return which channel int8 keeps least exactly, and how exactly, and warn where that is coarse."""
    found = encoded.calibration
    if found is None or not math.isfinite(found.worst[1]):
        return None
    channel, decibels = found.worst
    if decibels < EXACT:
        coarse = int((found.sqnr_C < EXACT).sum())
        report(
            "note",
            text=f"stage {stage.name}: int8 keeps {coarse:,} of {counted(len(found.sqnr_C), 'channel')} coarsely, "
            f"channel {channel} the worst, with {decibels:.0f} dB from its variance to that of its rounding: some "
            "values are far larger than the others. "
            f'`--set stage.{stage.name}.store.dtype="float16"` keeps them as they are.',
        )
    return {"channel": channel, "sqnr_db": round(decibels, 1)}


def _missing_bytes(stage: StagePlan) -> int:
    """Return how many bytes the rest of a stage's store needs beyond those that are free; uncompressed."""
    written = sum(list_files(stage.folder / STORE).values())
    return max(0, stage.store_bytes() - written - shutil.disk_usage(stage.folder).free)


def _not_written(stage: StagePlan) -> dict[str, Any]:
    return {
        "state": "recomputed",
        "why": stage.policy.why,
        "dtype": stage.built.config.store.dtype,
        "rows": stage.rows,
        "bytes": 0,
        "float32_bytes": stage.store_bytes("float32"),
        "seconds": 0.0,
        "forward_seconds": 0.0,
    }
