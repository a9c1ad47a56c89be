"""Is a representation worth freezing? Dead channels, and how many directions the rows really use.

Legend: B items, C channels, T rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

DEAD = 1e-6  # of the largest deviation of a channel, or of the channel's own mean


class Health:
    """Adds up the first two moments of representation rows.

    The first row is subtracted from all: a constant channel is then exactly zero, whatever its constant.
    """

    def __init__(self, channels: int) -> None:
        self.rows = 0
        self.first_C: Tensor | None = None
        self.sum_C = torch.zeros(channels, dtype=torch.float64)
        self.squares_CC = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, z_BCT: Tensor) -> None:
        """Count the rows of z."""
        rows_RC = z_BCT.detach().transpose(1, 2).flatten(0, 1).float().cpu()
        if self.first_C is None:
            self.first_C = rows_RC[0].clone()
        rows_RC = rows_RC - self.first_C
        self.rows += len(rows_RC)
        self.sum_C += rows_RC.sum(0, dtype=torch.float64)
        self.squares_CC += (rows_RC.T @ rows_RC).double()

    def report(self) -> dict[str, Any]:
        """Return dead channels, effective rank (Roy & Vetterli 2007) and words of warning, JSON-able."""
        unknown = {"rows": self.rows, "dead_channels": None, "effective_rank": None}
        if self.rows < 2 or self.first_C is None:
            return {**unknown, "warnings": []}
        if not (torch.isfinite(self.first_C).all() and torch.isfinite(self.squares_CC).all()):
            return {**unknown, "warnings": ["the representation holds NaN, infinity or huge numbers"]}
        mean_C = self.sum_C / self.rows
        covariance_CC = self.squares_CC / self.rows - torch.outer(mean_C, mean_C)
        deviation_C = covariance_CC.diagonal().clamp(min=0).sqrt()
        largest = float(deviation_C.max())
        size_C = (mean_C + self.first_C).abs().clamp(min=max(largest, 1e-30))
        dead = int((deviation_C <= DEAD * size_C).sum())
        share = torch.linalg.eigvalsh(covariance_CC).clamp(min=0)
        share = share / share.sum().clamp(min=1e-300)
        rank = float(torch.exp(-(share * share.clamp(min=1e-300).log()).sum()))
        channels = len(deviation_C)
        warnings = []
        if dead == channels:
            warnings.append("the representation has collapsed: every row is the same")
        elif dead > channels // 2:
            warnings.append(f"{dead} of {channels} channels are dead (constant)")
        return {
            "rows": self.rows,
            "dead_channels": dead,
            "effective_rank": round(rank, 2),
            "warnings": warnings,
        }
