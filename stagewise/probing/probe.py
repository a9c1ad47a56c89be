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
from stagewise.errors import DataError, NumberError
from stagewise.probing.features import Features
from stagewise.probing.fit import Fitted, fit
from stagewise.runs.interval import of_accuracy
from stagewise.runs.probe_record import RESULT, TENSORS, Predictions
from stagewise.seeds import derive_seed
from stagewise.stopping import Stop
from stagewise.training.checkpoint import write_tensors


@dataclass(frozen=True)
class ProbeJob:
    """Everything that fitting a probe on a stage needs.

    Attributes:
        probe: as in the pipeline file.
        stage: name of the stage.
        dataset: whose labels are predicted.
        features: gives the examples, with a path for a scratch file.
        device: where the probe is fitted.
        optimizer: makes one for the probe's parameters.
        seed: of the pipeline.
        fingerprint: of everything that decides the result.
        weights: sha256 of the stage's weights; None of those it had before training.
        too_short: labelled items, of training and test, that have no row of the stage.
    """

    probe: Probe
    stage: str
    dataset: Dataset
    features: Callable[[Path], Features]
    device: torch.device
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    seed: int
    fingerprint: str
    weights: str | None = None
    too_short: int = 0


def run_probe(job: ProbeJob, folder: Path, stop: Stop, report: Callable[..., None]) -> dict[str, Any]:
    """Fit, test, and write `probe.safetensors`, `predictions.safetensors` and, last, `probe.json`.

    Raises:
        DataError: there is nothing to train or to test on.
        NumberError: a representation is NaN or infinite, or the probe diverges.
        Interrupted: a signal asked to stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    atomic.sweep(folder)
    probe = job.probe
    try:
        fitted = fit(
            job.features(folder / f"rows{atomic.PARTIAL}"),
            job.dataset.split("train"),
            job.dataset.split("test"),
            len(job.dataset.label_classes(probe.labels)),
            probe.hidden,
            probe.epochs,
            probe.batch_size,
            job.optimizer,
            derive_seed(job.seed, probe.name, job.stage),
            job.device,
            stop,
            report,
        )
    except NumberError as error:
        raise NumberError(f"probe {probe.name} on stage {job.stage}: {error}") from None
    result = _result(job, fitted, predictions := _predictions(job, fitted))
    result["sha256"] = write_tensors(folder / TENSORS, fitted.tensors)
    result["predictions"] = predictions.write(folder)
    atomic.write_sealed(folder / RESULT, result)
    return result


def no_rows(probe: Probe, part: str, stage: str) -> DataError:
    """Say that there is nothing to train or to test on."""
    return DataError(
        f"probe {probe.name}: no {part} item has a label '{probe.labels}' and a row of stage {stage}. Check "
        "data.splits and the labels."
    )


def _predictions(job: ProbeJob, fitted: Fitted) -> Predictions:
    for part, items in (("training", fitted.train_items), ("test", len(fitted.items_I))):
        if not items:
            raise no_rows(job.probe, part, job.stage)
    keys = [job.dataset.keys[item] for item in fitted.items_I.tolist()]
    return Predictions(keys, fitted.rows_I, fitted.row_N, fitted.label_N, fitted.predicted_N, fitted.probability_N)


def _result(job: ProbeJob, fitted: Fitted, predictions: Predictions) -> dict[str, Any]:
    probe, correct_I, names = job.probe, predictions.correct_I, job.dataset.label_classes(job.probe.labels)
    return {
        "format": 1,
        "name": probe.name,
        "stage": job.stage,
        "labels": probe.labels,
        "metric": "accuracy",
        "value": int(correct_I.sum()) / len(fitted.label_N),
        "interval": list(of_accuracy(correct_I, fitted.rows_I)),
        "majority": fitted.majority,
        "train_items": fitted.train_items,
        "test_items": len(fitted.items_I),
        "too_short": job.too_short,
        "train_rows": fitted.train_rows,
        "test_rows": len(fitted.label_N),
        "classes": len(names),
        "class_names": names,
        "pool": probe.pool,
        "label_offset": None if probe.pool else probe.label_offset,
        "hidden": probe.hidden,
        "fingerprint": job.fingerprint,
        "weights": job.weights,
    }
