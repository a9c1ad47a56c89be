"""Linear probes: fitted on representations, scored on held-out items.

Legend: N examples, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stagewise import durable
from stagewise.arrays import Ints
from stagewise.datasets.base import Dataset
from stagewise.errors import DataError, NumberError
from stagewise.pipeline import Probe
from stagewise.probing.features import Features
from stagewise.runs.facts import of_accuracy
from stagewise.runs.records import RESULT, TENSORS, Predictions
from stagewise.seeds import derive_seed
from stagewise.signals import Stop
from stagewise.training.checkpoint import write_tensors

# Fit a linear classifier (optionally with one hidden layer) on standardised vectors, and test it.

TEST_ROWS = 8192


@dataclass(frozen=True)
class Fitted:
    """A probe and what it got right.

    Attributes:
        items_I: test items with examples.
        rows_I: examples of each of them.
        row_N, label_N, predicted_N, probability_N: of every test example, as `Predictions` has them.
        majority: accuracy of always saying the training items' most frequent class.
        train_items: training items with examples.
        train_rows: their examples.
        tensors: mean, deviation and weights.
    """

    items_I: Ints  # noqa: N815
    rows_I: Ints  # noqa: N815
    row_N: npt.NDArray[np.int32]  # noqa: N815
    label_N: npt.NDArray[np.int32]  # noqa: N815
    predicted_N: npt.NDArray[np.int32]  # noqa: N815
    probability_N: npt.NDArray[np.float32]  # noqa: N815
    majority: float
    train_items: int
    train_rows: int
    tensors: dict[str, Tensor]


def fit(
    features: Features,
    train: Ints,
    test: Ints,
    classes: int,
    hidden: int | None,
    epochs: int,
    batch_size: int,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    seed: int,
    device: torch.device,
    stop: Stop,
    report: Callable[..., None],
) -> Fitted:
    """Fit on the segments of the training items, and say the classes of those of the test items.

    Args:
        features: the examples.
        train: items.
        test: items.
        classes: how many there are.
        hidden: units of one ReLU layer, or None for a linear probe.
        epochs: passes over the training examples.
        batch_size: examples per step.
        optimizer: makes one for the probe's parameters.
        seed: every random choice derives from it.
        device: where the probe is fitted.
        stop: asked after every step.
        report: told ("fit", epoch=…, of=…) after every epoch.

    Raises:
        NumberError: the probe diverges.
        Interrupted: a signal asked to stop.
    """
    train_S = np.flatnonzero(np.isin(features.items, train))
    test_S = np.flatnonzero(np.isin(features.items, test))
    mean_C, deviation_C, counts = _moments(features, train_S, classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "probe"))
        probe = network(features.channels, classes, hidden).to(device)
    optim = optimizer(probe)
    for epoch in range(epochs):
        order = np.random.Generator(np.random.Philox(derive_seed(seed, epoch))).permutation(train_S)
        for x_NC, y_N, _ in _batches(features, order, batch_size, mean_C, deviation_C, device):
            F.cross_entropy(probe(x_NC), y_N).backward()
            optim.step()
            optim.zero_grad(set_to_none=True)
            stop.check("the stages are complete; this probe starts again.")
        if not all(bool(torch.isfinite(p).all()) for p in probe.parameters()):  # a NaN stays, once it is there
            raise NumberError(
                f"its weights are NaN or infinite after epoch {epoch + 1}; nothing of it is kept. Lower the learning "
                "rate of its optimizer, then type the same command again."
            )
        report("fit", epoch=epoch + 1, of=epochs)

    items_I, place_S = np.unique(features.items[test_S], return_inverse=True)
    rows_I = np.bincount(place_S, features.counts[test_S], len(items_I)).astype(np.int64)
    label_N, predicted_N = np.empty((2, int(rows_I.sum())), np.int32)
    row_N, probability_N = np.empty_like(label_N), np.empty(label_N.shape, np.float32)
    begin = 0
    with torch.inference_mode():
        for x_NC, y_N, segments in _batches(features, test_S, TEST_ROWS, mean_C, deviation_C, device):
            part = slice(begin, begin := begin + len(y_N))
            probability_N[part], predicted_N[part] = (found.cpu().numpy() for found in probe(x_NC).softmax(1).max(1))
            label_N[part] = y_N.cpu().numpy()
            row_N[part] = np.concatenate([features.rows(segment) for segment in segments.tolist()])
    return Fitted(
        items_I,
        rows_I,
        row_N,
        label_N,
        predicted_N,
        probability_N,
        float((label_N == counts.argmax()).sum() / max(1, len(label_N))),
        len(np.unique(features.items[train_S])),
        int(counts.sum()),
        {"mean": mean_C, "deviation": deviation_C, **probe.state_dict()},
    )


def network(channels: int, classes: int, hidden: int | None) -> nn.Sequential:
    """Return a linear classifier, or one with a hidden layer, of standardised vectors (N, C) → logits (N, classes)."""
    layers: list[nn.Module] = [nn.Linear(channels, hidden or classes)]
    if hidden:
        layers += [nn.ReLU(), nn.Linear(hidden, classes)]
    return nn.Sequential(*layers)


def _moments(features: Features, segments: Ints, classes: int) -> tuple[Tensor, Tensor, Ints]:
    """Return mean and deviation (C,) of the training examples, and how often each class occurs."""
    total_C, squares_C = np.zeros(features.channels), np.zeros(features.channels)
    counts = np.zeros(classes, np.int64)
    for segment in segments.tolist():
        x_NC, y_N = features.read(segment)
        total_C += x_NC.sum(0, dtype=np.float64)
        squares_C += np.square(x_NC, dtype=np.float64).sum(0)
        counts += np.bincount(y_N, minlength=classes)
    rows = max(1, int(counts.sum()))
    mean_C = total_C / rows
    deviation_C = np.sqrt(np.maximum(0, squares_C / rows - mean_C**2))
    deviation_C[deviation_C <= 1e-6 * max(1e-30, deviation_C.max())] = 1.0  # a constant channel says nothing
    return torch.from_numpy(mean_C).float(), torch.from_numpy(deviation_C).float(), counts


def _batches(
    features: Features,
    segments: Ints,
    batch_size: int,
    mean_C: Tensor,
    deviation_C: Tensor,
    device: torch.device,
) -> Iterator[tuple[Tensor, Tensor, Ints]]:
    """Yield standardised (x_NC, y_N, segments) of about `batch_size` examples."""
    bounds = np.cumsum(features.counts[segments])
    cuts = np.flatnonzero(np.diff((bounds - 1) // batch_size)) + 1
    for part in np.split(segments, cuts):
        if not len(part):
            continue
        read = [features.read(segment) for segment in part.tolist()]
        x_NC = torch.from_numpy(np.concatenate([x for x, _ in read]))
        y_N = torch.from_numpy(np.concatenate([y for _, y in read]))
        yield ((x_NC - mean_C) / deviation_C).to(device), y_N.to(device), part


# Fit one probe on one stage and write its result; the same inputs give the same bytes.


@dataclass(frozen=True)
class ProbeJob:
    """Everything that fitting a probe on a stage needs.

    Attributes:
        probe: as in the pipeline file.
        stage: name of the stage.
        dataset: whose labels are predicted.
        features: the examples.
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
    features: Features
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
    durable.sweep(folder)
    probe = job.probe
    try:
        fitted = fit(
            job.features,
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
    durable.write_sealed(folder / RESULT, result)
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
