"""How far a mean over a few seeds may be off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import stdev

COVERED = 0.95


def half_width(values: Sequence[float]) -> float:
    """Return half the width of the 95 % interval of the mean of at least two values (Student, 1908)."""
    return t_quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))


def t_quantile(freedom: int) -> float:
    """Return the t that 95 % of Student's distribution with `freedom` >= 1 degrees lie within, ± it."""
    low, high = 0.0, math.pi / 2  # angles: t = sqrt(freedom) tan(angle)
    while low < (middle := (low + high) / 2) < high:
        if _within(middle, freedom) < COVERED:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(high)


def _within(angle: float, freedom: int) -> float:
    """Share of the distribution within ± t: the finite sums of Abramowitz and Stegun 1964, 26.7.3 and 26.7.4."""
    odd = freedom % 2
    total, term = 0.0, math.cos(angle) if odd else 1.0
    for power in range(odd, freedom - 1, 2):
        total += term
        term *= math.cos(angle) ** 2 * (power + 1) / (power + 2)
    inside = math.sin(angle) * total
    return 2 / math.pi * (angle + inside) if odd else inside
