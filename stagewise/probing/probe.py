"""Fit one probe on one stage and write its result; the same inputs give the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stagewise import atomic
from stagewise.config import Probe
from stagewise.datasets.base import Dataset
from stagewise.encoding.encode import Chain
from stagewise.errors import DataError, NumberError
from stagewise.modules.geometry import Geometry
from stagewise.probing.features import Features, PooledFeatures, RowFeatures
from stagewise.probing.fit import Fitted, fit
from stagewise.probing.interval import over_items, wilson
from stagewise.runs.probe_record import RESULT, TENSORS
from stagewise.seeds import derive_seed
from stagewise.stopping import Stop
from stagewise.training.checkpoint import write_tensors
from stagewise.windows.align import Alignment


@dataclass(frozen=True)
class ProbeJob:
    """Everything that fitting a probe on a stage needs.

    Attributes:
        probe: as in the pipeline file.
        stage: name of the stage.
        dataset: whose labels are predicted.
        chain: to the stage's rows of that data set.
        geometry: from samples to those rows.
        optimizer: makes one for the probe's parameters.
        seed: of the pipeline.
        fingerprint: of everything that decides the result.
        weights: sha256 of the stage's weights; None of those it had before training.
    """

    probe: Probe
    stage: str
    dataset: Dataset
    chain: Chain
    geometry: Geometry
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    seed: int
    fingerprint: str
    weights: str | None = None


def run_probe(job: ProbeJob, folder: Path, stop: Stop, report: Callable[..., None]) -> dict[str, Any]:
    """Fit, test, and write `probe.safetensors` and, last, `probe.json`.

    Raises:
        DataError: there is nothing to train or to test on.
        NumberError: a representation is NaN or infinite, or the probe diverges.
        Interrupted: a signal asked to stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic.sweep(folder)
    try:
        fitted = _fit(job, folder, stop, report)
    except NumberError as error:
        raise NumberError(f"probe {job.probe.name} on stage {job.stage}: {error}") from None
    result = _result(job, fitted) | {"sha256": write_tensors(folder / TENSORS, fitted.tensors)}
    atomic.write_sealed(folder / RESULT, result)
    return result


def _fit(job: ProbeJob, folder: Path, stop: Stop, report: Callable[..., None]) -> Fitted:
    probe = job.probe
    if probe.pool:
        features: Features = PooledFeatures(job.chain, job.dataset, probe.labels, stop, report)
    else:
        alignment = Alignment(job.geometry, probe.label_offset)
        scratch = folder / f"rows{atomic.PARTIAL}"
        features = RowFeatures(job.chain, job.dataset, probe.labels, alignment, scratch, stop, report)
    return fit(
        features,
        job.dataset.split("train"),
        job.dataset.split("test"),
        len(job.dataset.label_classes(probe.labels)),
        probe.hidden,
        probe.epochs,
        probe.batch_size,
        job.optimizer,
        _seed(job),
        job.chain.device,
        stop,
        report,
    )


def no_rows(probe: Probe, part: str, stage: str) -> DataError:
    """Say that there is nothing to train or to test on."""
    return DataError(
        f"probe {probe.name}: no {part} item has a label '{probe.labels}' and a row of stage {stage}. Check "
        "data.splits and the labels."
    )


def _seed(job: ProbeJob) -> int:
    return derive_seed(job.seed, job.probe.name, job.stage)


def _result(job: ProbeJob, fitted: Fitted) -> dict[str, Any]:
    probe = job.probe
    for part, items in (("training", fitted.train_items), ("test", fitted.test_items)):
        if not items:
            raise no_rows(probe, part, job.stage)
    right, rows = int(fitted.correct_I.sum()), int(fitted.rows_I.sum())
    interval = wilson(right, rows) if probe.pool else over_items(fitted.correct_I, fitted.rows_I, _seed(job))
    return {
        "format": 1,
        "name": probe.name,
        "stage": job.stage,
        "labels": probe.labels,
        "metric": "accuracy",
        "value": right / rows,
        "interval": list(interval),
        "majority": fitted.majority,
        "train_items": fitted.train_items,
        "test_items": fitted.test_items,
        "train_rows": fitted.train_rows,
        "test_rows": fitted.test_rows,
        "classes": len(job.dataset.label_classes(probe.labels)),
        "pool": probe.pool,
        "label_offset": None if probe.pool else probe.label_offset,
        "hidden": probe.hidden,
        "fingerprint": job.fingerprint,
        "weights": job.weights,
    }
