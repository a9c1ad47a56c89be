"""Make one stage: train it (or adopt its weights), freeze it, encode the data set, and say what it cost."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stagewise import __version__, atomic
from stagewise.datasets.base import Dataset
from stagewise.encoding.encode import Chain, Encoded, encode
from stagewise.errors import DataError
from stagewise.modules.stage_module import StageModule
from stagewise.planning.build import make_trainee
from stagewise.planning.plan import Plan, StagePlan, adoptable
from stagewise.seeds import derive_seed
from stagewise.stopping import Stop
from stagewise.stores import StoreReader, finished
from stagewise.training.checkpoint import read_tensors, restore
from stagewise.training.job import VALIDATION_WINDOWS, Job
from stagewise.training.train import Training
from stagewise.windows.draw import Windows
from stagewise.windows.source import RawSource, Source, StoreSource


def carry_out(plan: Plan, position: int, stop: Stop, report: Callable[..., None]) -> dict[str, Any]:
    """Make a stage inside its folder and return what its record says; nothing is committed here.

    Raises:
        StagewiseError: anything a user can act on.
    """
    stage = plan.stages[position]
    assert stage.folder is not None
    assert stage.fingerprint is not None
    source, below = input_of(plan, position)
    older = adoptable(stage) if stage.action == "encode" else None
    if stage.record is not None:
        facts = {key: stage.record[key] for key in ("train", "memory", "health")}
    elif older is not None:
        for name in ("encoder.safetensors", "metrics.jsonl"):
            atomic.write_bytes(stage.folder / name, (older / name).read_bytes())
        record = atomic.read_json(older / "stage.json", "")
        facts = {key: record[key] for key in ("train", "memory", "health")}
    else:
        facts = _train(plan, stage, source, below, stop, report)
    load_weights(stage.built.module, stage.folder).to(plan.device)
    chain = Chain(source, [*below, stage.built.module], plan.device)
    store = _encode(stage, chain, stop, report) if stage.policy.write else _not_written(stage)
    return {
        "index": stage.index,
        "name": stage.name,
        "fingerprint": stage.fingerprint,
        "identity": stage.identity,
        **facts,
        "store": store,
        "environment": environment(plan.device),
    }


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
        {f"stage.{k}": v for k, v in read_tensors(folder / "encoder.safetensors").items()},
        {"stage": module},
        None,
    )
    return module.eval().requires_grad_(False)


def held_out(dataset: Dataset, fraction: float, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Split the training items: those that are trained on, and those that tell when to stop."""
    items = dataset.split("train")
    count = min(len(items) - 1, max(1, round(fraction * len(items)))) if fraction > 0 else 0
    order = np.random.Generator(np.random.Philox(derive_seed(seed, "validation"))).permutation(items)
    return np.sort(order[count:]), np.sort(order[:count])


def environment(device: torch.device) -> dict[str, Any]:
    """What a difference between two machines' numbers could come from."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "stagewise": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device.type,
        "device_name": name,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _train(
    plan: Plan,
    stage: StagePlan,
    source: Source,
    below: list[StageModule],
    stop: Stop,
    report: Callable[..., None],
) -> dict[str, Any]:
    config, seed = stage.built.config, plan.pipeline.pipeline.seed
    assert isinstance(plan.size, Dataset)
    assert stage.folder is not None
    stage.built.module.to(plan.device)
    stage.built.objective.to(plan.device)
    geometry = (
        sum((module.geometry for module in below), start=type(stage.built.geometry)()) + stage.built.module.geometry
    )
    train, validation = held_out(plan.size, plan.pipeline.data.validation, seed)
    window, lengths = config.objective.window, source.lengths
    windows = Windows(train, lengths, geometry, window, config.train.windows_per_item)
    if config.train.epochs and not windows.steps(config.train.batch_size):
        raise DataError(
            f"stage {stage.name}: no training item is long enough for a window of {window} rows, which takes "
            f"{geometry.window_span(window)} rows of its input (the longest item has {max(lengths, default=0)}). "
            f"Lower it, for example with `--set stage.{stage.name}.objective.window={max(2, window // 2)}`."
        )
    short = int((windows.starts == 0).sum())
    if short:
        report(
            "note",
            text=f"stage {stage.name}: {short} of {len(train)} training items are too short for a window "
            f"of {window} rows; they are encoded but not trained on.",
        )
    job = Job(
        name=stage.name,
        seed=seed,
        trainee=make_trainee(plan.pipeline, stage.built, stage.forecast.pieces),
        source=source,
        below=below,
        windows=windows,
        validation=Windows(validation, lengths, geometry, window, VALIDATION_WINDOWS),
        batch_size=config.train.batch_size,
        epochs=config.train.epochs,
        patience=config.train.patience,
        checkpoint=config.train.checkpoint,
        device=plan.device,
        keys=plan.size.keys,
    )
    training = Training(job, stage.folder, stop, report)
    progress = training.run()
    for text in progress.health["warnings"]:
        report("note", text=f"stage {stage.name}: {text}.")
    first, last = progress.history[0], progress.history[-1]
    return {
        "train": {
            "epochs": progress.epoch,
            "steps": progress.steps,
            "seconds": progress.seconds,
            "initial_loss": first.get("validation_loss"),
            "loss": last.get("loss", first.get("validation_loss")),
            "validation_loss": progress.best_loss,
            "best_epoch": progress.best_epoch,
            "converged": training.converged,
            "data_wait_seconds": progress.waited,
            "skipped_items": short,
        },
        "memory": {
            "predicted_peak_bytes": stage.forecast.bytes.peak,
            "measured_peak_bytes": progress.peak_bytes,
            "pieces": stage.forecast.pieces,
            "by_category": stage.forecast.bytes.by_category,
        },
        "health": progress.health,
    }


def _encode(stage: StagePlan, chain: Chain, stop: Stop, report: Callable[..., None]) -> dict[str, Any]:
    assert stage.folder is not None
    assert stage.fingerprint is not None
    manifest = finished(stage.folder, stage.fingerprint)
    if manifest is None:
        needed, free = stage.store_bytes(), shutil.disk_usage(stage.folder).free
        if needed > free and stage.policy.compress == "none":
            report(
                "note",
                text=f"stage {stage.name}: its store needs {needed:,} bytes and the disk has {free:,} left.",
            )
        encoded = encode(
            chain,
            stage.folder,
            stage.built.config.store.dtype,
            stage.policy.compress,
            stage.fingerprint,
            stop,
            lambda kind, **facts: report(kind, stage=stage.name, **facts),
        )
    else:  # a kill came between the manifest and the record
        encoded = Encoded(manifest, 0.0, 0.0)
    manifest = encoded.manifest
    return {
        "state": "written",
        "why": stage.policy.why,
        "dtype": manifest.dtype,
        "compress": manifest.compress,
        "rows": manifest.rows,
        "bytes": manifest.bytes,
        "float32_bytes": manifest.float32_bytes,
        "saturated": manifest.saturated,
        "seconds": encoded.seconds,
        "forward_seconds": encoded.forward_seconds,
    }


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
