"""How sure an accuracy, and the difference of two, is: 95 % intervals over items; rows of one item are not independent.

They hold what other test items would change. What another seed, that is another training, would change is in none.

Shape suffixes: I test items.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from stagewise.libraries import load

Ints = npt.NDArray[np.int64]
Interval = tuple[float, float]
Z = 1.959963984540054  # of a normal distribution, 97.5 %


def wilson(share: float, total: float, quantile: float = Z) -> Interval:
    """Return the score interval (Wilson, 1927) of a share of `total` independent answers; it stays within 0 and 1."""
    if total == 0:
        return 0.0, 1.0
    z2 = quantile * quantile
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = quantile / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total * total))
    return 0.0 if share == 0 else max(0.0, centre - half), 1.0 if share == 1 else min(1.0, centre + half)


def of_accuracy(correct_I: Ints, rows_I: Ints) -> Interval:
    """Return the interval of an accuracy over rows, whole items being what is drawn.

    One row an item: Wilson's. Several: Wilson's of as many independent rows as would be as sure (Franco et al. 2019,
    "Comparative study of confidence intervals for proportions in complex sample surveys"), with Student's t of I - 1.

    Args:
        correct_I: right rows of each item.
        rows_I: rows of each item.
    """
    rows, items = int(rows_I.sum()), len(rows_I)
    share = correct_I.sum() / max(1, rows)
    if rows == items:  # also of none
        return wilson(share, items)
    if items < 2:
        return 0.0, 1.0
    variance = _covariance(correct_I, correct_I, rows_I)
    independent = share * (1 - share) / variance if variance > 0 else float(items if share in (0, 1) else rows)
    return wilson(share, min(rows, independent), student(items - 1))


def of_difference(first_I: Ints, second_I: Ints, rows_I: Ints) -> tuple[float, Interval]:
    """Return how much more accurate the first of two readers of the same rows is, and the interval of that.

    The intervals of both, with the correlation of what they get right over items: Newcombe's tenth method (1998)
    where an item has one row, and what Zou and Donner (2008) made of it where it has several.

    Args:
        first_I: right rows of each item, by the first.
        second_I: those by the second.
        rows_I: rows of each item.
    """
    rows, items = max(1, int(rows_I.sum())), len(rows_I)
    first, second = first_I.sum() / rows, second_I.sum() / rows
    (low, high), (least, most) = of_accuracy(first_I, rows_I), of_accuracy(second_I, rows_I)
    spread = math.sqrt(_covariance(first_I, first_I, rows_I) * _covariance(second_I, second_I, rows_I))
    alike = _covariance(first_I, second_I, rows_I) / spread if spread > 0 else 0.0
    if rows == items and alike > 0:  # his correction for continuity
        alike = max(0.0, alike - 1 / (2 * items * (items - 1) * spread))
    alike = float(np.clip(alike, -1, 1))

    def reach(own: float, other: float) -> float:
        return math.sqrt(max(0.0, own * own - 2 * alike * own * other + other * other))

    difference = float(first - second)
    down, up = reach(first - low, most - second), reach(high - first, second - least)
    return difference, (max(-1.0, difference - down), min(1.0, difference + up))


def _covariance(first_I: Ints, second_I: Ints, rows_I: Ints) -> float:
    """Estimate the covariance of two accuracies over the items that might have been drawn (ratio estimator)."""
    rows, items = int(rows_I.sum()), len(rows_I)
    if items < 2 or not rows:
        return 0.0
    off_I, other_I = (right_I - right_I.sum() / rows * rows_I for right_I in (first_I, second_I))
    return float(items / (items - 1) * (off_I * other_I).sum() / rows**2)


def student(freedom: int) -> float:
    """Return the 97.5 % quantile of Student's t (1908)."""
    return float(load("scipy.special").stdtrit(freedom, 0.975))  # scipy.stats takes twice as long to import
