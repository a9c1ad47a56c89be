"""What training needs, of one stage alone or of several in sync, and where it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stagewise.modules.geometry import Geometry
from stagewise.modules.stage_module import StageModule
from stagewise.training.step import Trainee
from stagewise.windows.classes import Classes
from stagewise.windows.crops import Crops
from stagewise.windows.draw import Windows
from stagewise.windows.source import Source

Report = Callable[..., None]  # report(kind, **facts): what the terminal and the event log are told
VALIDATION_WINDOWS = 4  # per item, or as many as fit: one random window an item would make convergence noisy


@dataclass(frozen=True)
class Member:
    """One of the stages that are trained together; the only one in the iterative schedule.

    Attributes:
        name: of the stage.
        folder: where it lives.
        trainee: the stage, its objective and optimizer, on the job's device.
        geometry: from the source's rows to this stage's.
        rows: of its window, at most.
        every: steps between two updates.
        classes: for an objective that needs them.
    """

    name: str
    folder: Path
    trainee: Trainee
    geometry: Geometry
    rows: int
    every: int = 1
    classes: Classes | None = None


@dataclass(frozen=True)
class Job:
    """Everything that training needs.

    Attributes:
        members: the stages in training, lowest first.
        seed: of the pipeline.
        source: where rows are read.
        below: frozen stages between the source and the lowest member, lowest first.
        windows: of the training items, as the topmost member needs them.
        validation: of the held-out items; without any, convergence is read off the training loss.
        batch_size: windows per step.
        epochs: at most.
        patience: epochs without a better loss (summed over the members).
        checkpoint: seconds between checkpoints within an epoch.
        keys: names of the items, for messages.
        weights_below: sha256 of the weights right below the lowest member, "" if that is the data.
        noise: added to the input of a training step, in deviations of each channel.
    """

    members: Sequence[Member]
    seed: int
    source: Source
    below: Sequence[StageModule]
    windows: Windows | Crops
    validation: Windows | Crops
    batch_size: int
    epochs: int
    patience: int
    checkpoint: float
    device: torch.device
    keys: Sequence[str]
    weights_below: str = ""
    noise: float = 0.0

    @property
    def name(self) -> str:
        """Name of the topmost member, which the draws of windows are seeded with."""
        return self.members[-1].name

    def says(self, one: str, several: str) -> str:
        """Begin a message on what the members do: as "stage a is …", or "stages a to c are …"."""
        names = [member.name for member in self.members]
        return f"stage {names[0]} {one}" if len(names) == 1 else f"stages {names[0]} to {names[-1]} {several}"


@dataclass
class Progress:
    """Where training stands: JSON-able, and part of every checkpoint."""

    epoch: int = 0  # epochs finished
    step: int = 0  # steps done in the epoch after
    steps: int = 0  # steps done in all
    sums: dict[str, dict[str, float]] = field(default_factory=dict)  # of this epoch's metrics, by member
    scored: dict[str, int] = field(default_factory=dict)  # steps of this epoch that they are sums of
    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # of finished epochs, by member
    best_loss: float | None = None
    best_epoch: int = 0
    best_file: str = ""
    best_sha256: str = ""
    judged: int | None = None  # held-out windows that every loss is a mean of; None: noted by an older version
    seconds: float = 0.0
    waited: float = 0.0
    peak_bytes: int = 0
    machine: str | None = None  # that trained last
    weights_below: str | None = None  # that it is trained on
    health: dict[str, dict[str, Any]] = field(default_factory=dict)  # by member
    scored_again: dict[str, dict[str, float]] = field(default_factory=dict)  # the chosen weights, by member
