"""How sure an accuracy is: 95 % intervals over items, because the rows of one item are not independent."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
Z = 1.959963984540054  # of a normal distribution, 97.5 %


def wilson(correct: int, total: int) -> tuple[float, float]:
    """Return the Wilson score interval (1927) of a share of independent items."""
    if total == 0:
        return 0.0, 1.0
    share, z2 = correct / total, Z * Z
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    low = 0.0 if correct == 0 else centre - half
    return low, 1.0 if correct == total else centre + half


def over_items(correct_I: npt.NDArray[np.int64], rows_I: npt.NDArray[np.int64], seed: int) -> tuple[float, float]:
    """Return the percentile interval of rows' accuracy when whole items are drawn again (cluster bootstrap).

    Args:
        correct_I: right rows of each item.
        rows_I: rows of each item.
        seed: of the draws.
    """
    if rows_I.sum() == 0:
        return 0.0, 1.0
    rng = np.random.Generator(np.random.Philox(seed))
    shares = np.empty(RESAMPLES)
    for number in range(RESAMPLES):
        drawn = rng.integers(0, len(rows_I), len(rows_I))
        shares[number] = correct_I[drawn].sum() / max(1, rows_I[drawn].sum())
    low, high = np.quantile(shares, (0.025, 0.975))
    return float(low), float(high)
