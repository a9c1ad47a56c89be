"""What every local loss has in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

MOST = 1 << 20  # steps, negatives, …: beyond it sizes do not fit into 64 bits; the pipeline file has the same bound


def check_count(name: str, value: int, least: int = 1) -> None:
    """Refuse a number of steps, negatives, … out of range.

    Raises:
        ValueError: it is below `least` or above MOST.
    """
    if not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")
    if value > MOST:
        raise ValueError(f"{name} must be at most {MOST:,}, not {value:,}")


def linear_maps(count: int, rows: int, columns: int) -> nn.Parameter:
    """Make `count` linear maps (count, rows, columns), each with torch's own start."""
    maps = nn.Parameter(torch.empty(count, rows, columns))
    for one in maps:
        nn.init.kaiming_uniform_(one, a=math.sqrt(5))
    return maps


@dataclass(frozen=True)
class Score:
    """A loss to call backward on, and what else is worth a line in the log.

    Attributes:
        loss: a scalar with a graph.
        metrics: detached scalars by name, averaged over the steps of an epoch.
    """

    loss: Tensor
    metrics: dict[str, Tensor] = field(default_factory=dict)


class Objective(nn.Module, ABC):
    """The local loss of one stage; its own parameters are thrown away when the stage is frozen.

    A pipeline builds it as `Objective(z_channels=…, c_channels=…, **arguments of the file)`.

    Attributes:
        least_rows: rows of a window, or of a grid of patches, without which it cannot score.
    """

    least_rows: int = 1

    @abstractmethod
    def forward(self, z_BCT: Tensor, c_BDT: Tensor, generator: torch.Generator | None = None) -> Score:
        """Score a window.

        Args:
            z_BCT: representations of B items, C channels, T rows (or B, C and a grid of patches).
            c_BDT: their context, D channels; the same tensor as z_BCT in a stage without a context.
            generator: every random choice is drawn from it (CPU), so that a step can be repeated.
        """


class Supervised(Objective):
    """A local loss that needs labels.

    A pipeline builds it as `Supervised(z_channels=…, c_channels=…, classes=…, **arguments of the file)`.

    Attributes:
        labels: name of the data set's label.
        per_row: whether it needs one class per row instead of one per item.
    """

    labels: str
    per_row: bool = False

    @abstractmethod
    def forward(
        self, z_BCT: Tensor, c_BDT: Tensor, generator: torch.Generator | None = None, y: Tensor | None = None
    ) -> Score:
        """Score a window against its labels.

        Args:
            z_BCT: representations of B items, C channels, T rows (or B, C and a grid of patches).
            c_BDT: their context, D channels; the same tensor as z_BCT in a stage without a context.
            generator: every random choice is drawn from it (CPU), so that a step can be repeated.
            y: classes, int64: (B,) one of each item, or (B, T) one of each row; -1 where it is unknown.
        """
