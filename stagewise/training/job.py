"""What training a stage needs, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from stagewise.modules.stage_module import StageModule
from stagewise.training.step import Trainee
from stagewise.windows.draw import Windows
from stagewise.windows.source import Source

Report = Callable[..., None]  # report(kind, **facts): what the terminal and the event log are told
VALIDATION_WINDOWS = 4  # per item, or as many as fit: one random window an item would make convergence noisy


@dataclass(frozen=True)
class Job:
    """Everything that training a stage needs.

    Attributes:
        name: of the stage.
        seed: of the pipeline.
        trainee: the stage, its objective and optimizer, on `device`.
        source: where rows are read.
        below: frozen stages between the source and this one, lowest first.
        windows: of the training items.
        validation: of the held-out items; without any, convergence is read off the training loss.
        batch_size: windows per step.
        epochs: at most.
        patience: epochs without a better loss.
        checkpoint: seconds between checkpoints within an epoch.
        keys: names of the items, for messages.
    """

    name: str
    seed: int
    trainee: Trainee
    source: Source
    below: Sequence[StageModule]
    windows: Windows
    validation: Windows
    batch_size: int
    epochs: int
    patience: int
    checkpoint: float
    device: torch.device
    keys: Sequence[str]


@dataclass
class Progress:
    """Where training stands: JSON-able, and part of every checkpoint."""

    epoch: int = 0  # epochs finished
    step: int = 0  # steps done in the epoch after
    steps: int = 0  # steps done in all
    sums: dict[str, float] = field(default_factory=dict)  # of this epoch's metrics
    history: list[dict[str, Any]] = field(default_factory=list)
    best_loss: float | None = None
    best_epoch: int = 0
    best_file: str = ""
    best_sha256: str = ""
    seconds: float = 0.0
    waited: float = 0.0
    peak_bytes: int = 0
    health: dict[str, Any] = field(default_factory=dict)
