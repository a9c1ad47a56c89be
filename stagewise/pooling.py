"""One vector for an item: the mean of its rows, or their mean and deviation; added up piece by piece."""

from __future__ import annotations

import numpy as np

from stagewise.arrays import Floats
from stagewise.pipeline import Pool


def pooled_channels(channels: int, pool: str | None) -> int:
    """Return how many numbers a pooled vector of rows of C channels has."""
    return 2 * channels if pool == "mean+std" else channels


class Pooling:
    """The pooled vector of one item's rows.

    Args:
        pool: "mean", or "mean+std" for the deviation of every channel over the rows beside it.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool, self.count = pool, 0
        self._sum_C, self._squares_C = np.zeros(1), np.zeros(1)

    def add(self, rows_nC: Floats) -> None:
        """Add the next rows of the item."""
        self.count += len(rows_nC)
        self._sum_C = self._sum_C + rows_nC.sum(0, dtype=np.float64)
        if self.pool == "mean+std":
            self._squares_C = self._squares_C + np.square(rows_nC, dtype=np.float64).sum(0)

    def vector(self) -> Floats:
        """Return (C,), or (2C,) of means and then deviations, float32; of one row or more."""
        mean_C = self._sum_C / self.count
        if self.pool == "mean":
            return mean_C.astype(np.float32)
        std_C = np.sqrt(np.maximum(0, self._squares_C / self.count - mean_C**2))
        return np.concatenate([mean_C, std_C]).astype(np.float32)
