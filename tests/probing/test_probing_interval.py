"""Intervals against scipy and against the normal approximation."""

import numpy as np
import pytest
from scipy.stats import binomtest

from stagewise.probing.interval import over_items, wilson


@pytest.mark.parametrize(("correct", "total"), [(0, 7), (7, 7), (1, 1), (3, 10), (5000, 5708), (0, 1), (251, 500)])
def test_wilson(correct, total):
    theirs = binomtest(correct, total).proportion_ci(method="wilson")
    assert wilson(correct, total) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert wilson(correct, total)[0] <= correct / total <= wilson(correct, total)[1]


def test_nothing_known():
    assert wilson(0, 0) == (0.0, 1.0)
    assert over_items(np.zeros(0, np.int64), np.zeros(0, np.int64), 0) == (0.0, 1.0)
    assert over_items(np.zeros(3, np.int64), np.zeros(3, np.int64), 0) == (0.0, 1.0)


def test_single_rows_give_the_normal_approximation():
    correct = (np.random.default_rng(0).random(2000) < 0.7).astype(np.int64)
    share = correct.mean()
    half = 1.96 * np.sqrt(share * (1 - share) / 2000)
    low, high = over_items(correct, np.ones(2000, np.int64), 5)
    assert (low, high) == pytest.approx((share - half, share + half), abs=0.1 * half)


def test_rows_of_one_item_are_not_counted_as_independent():
    rng = np.random.default_rng(1)
    rows = np.full(100, 50)
    alike = np.where(rng.random(100) < 0.7, 50, 0)  # an item is right or wrong as a whole
    low, high = over_items(alike, rows, 0)
    share = alike.sum() / rows.sum()
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 100), rel=0.1)
    naive = wilson(int(alike.sum()), int(rows.sum()))
    assert high - low > 5 * (naive[1] - naive[0])


def test_the_seed_decides():
    correct, rows = np.arange(30), np.full(30, 40)
    assert over_items(correct, rows, 3) == over_items(correct, rows, 3)
    assert over_items(correct, rows, 3) != over_items(correct, rows, 4)


def test_certain_items():
    assert over_items(np.full(9, 4), np.full(9, 4), 0) == (1.0, 1.0)
    assert over_items(np.zeros(9, np.int64), np.full(9, 4), 0) == (0.0, 0.0)
