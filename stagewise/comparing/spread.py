"""How far a mean over a few seeds may be off."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import stdev

from stagewise.runs.interval import student


def half_width(values: Sequence[float]) -> float:
    """Return half the width of the 95 % interval of the mean of at least two values (Student, 1908)."""
    return student(len(values) - 1) * stdev(values) / math.sqrt(len(values))
