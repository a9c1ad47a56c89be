"""Intervals against scipy and against the normal approximation."""

import numpy as np
import pytest
from scipy.stats import binomtest

from stagewise.runs.facts import of_accuracy, of_difference, wilson


@pytest.mark.parametrize(("correct", "total"), [(0, 7), (7, 7), (1, 1), (3, 10), (5000, 5708), (0, 1), (251, 500)])
def test_wilson(correct, total):
    theirs = binomtest(correct, total).proportion_ci(method="wilson")
    low, high = wilson(correct / total, total)
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert low <= correct / total <= high


def test_nothing_known():
    assert wilson(0, 0) == (0.0, 1.0)
    assert of_accuracy(np.zeros(0, np.int64), np.zeros(0, np.int64)) == (0.0, 1.0)
    assert of_accuracy(np.array([7]), np.array([40])) == (0.0, 1.0)  # one item says nothing of others


def test_single_rows_give_the_score_interval():
    correct = (np.random.default_rng(0).random(300) < 0.7).astype(np.int64)
    assert of_accuracy(correct, np.ones(300, np.int64)) == wilson(correct.mean(), 300)


def test_rows_of_one_item_are_not_counted_as_independent():
    rng = np.random.default_rng(1)
    rows = np.full(100, 50)
    alike = np.where(rng.random(100) < 0.7, 50, 0)  # an item is right or wrong as a whole
    low, high = of_accuracy(alike, rows)
    share = alike.sum() / rows.sum()
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(share * (1 - share) / 100), rel=0.1)
    naive = wilson(share, rows.sum())
    assert high - low > 5 * (naive[1] - naive[0])
    apart = rng.binomial(rows, 0.7)  # rows that are independent are counted as such
    low, high = of_accuracy(apart, rows)
    naive = wilson(apart.sum() / rows.sum(), rows.sum())
    assert high - low == pytest.approx(naive[1] - naive[0], rel=0.2)


def test_what_is_all_right_is_not_certain():
    low, high = of_accuracy(np.full(9, 4), np.full(9, 4))
    assert high == 1
    assert low == pytest.approx(1 / (1 + 2.306**2 / 9), abs=1e-3)  # as of nine rows, with t of eight degrees
    assert of_accuracy(np.zeros(9, np.int64), np.full(9, 4)) == pytest.approx((0.0, 1 - low))


@pytest.mark.parametrize(("items", "accuracy"), [(5, 0.6), (12, 0.8), (30, 0.9)])
def test_it_covers_the_truth_where_items_are_few(items, accuracy):
    rng = np.random.default_rng(items)
    found = percentile = differences = 0
    for _ in range(400):
        rows = rng.integers(20, 80, items)
        truth = rng.beta(6 * accuracy, 6 * (1 - accuracy), (2, items))
        truth[1] = (truth[0] + truth[1]) / 2  # readers of the same items err alike
        correct = rng.binomial(rows, truth)
        low, high = of_accuracy(correct[0], rows)
        found += low <= accuracy <= high
        difference, (low, high) = of_difference(*correct, rows)
        assert -1 <= low <= difference <= high <= 1
        differences += low <= 0 <= high
        drawn = rng.integers(0, items, (200, items))
        low, high = np.quantile(correct[0][drawn].sum(1) / rows[drawn].sum(1), (0.025, 0.975))
        percentile += low <= accuracy <= high
    assert found > percentile
    assert found > 0.91 * 400
    assert differences > 0.9 * 400


def test_a_difference_is_that_of_the_same_items():
    first, second = np.repeat([1, 1, 0, 0], [24, 12, 2, 12]), np.repeat([1, 0, 1, 0], [24, 12, 2, 12])
    difference, interval = of_difference(first, second, np.ones(50, np.int64))
    assert difference == pytest.approx(0.2)
    apart = np.hypot(*(np.array([0.72, 0.52]) - (wilson(0.72, 50)[0], 2 * 0.52 - wilson(0.52, 50)[1])))
    assert interval[0] > 0.2 - apart  # the pairs tell more than two separate samples
    assert 0 < interval[0] < 0.2 < interval[1] < 0.4
    low, high = of_difference(second, first, np.ones(50, np.int64))[1]
    assert (-high, -low) == pytest.approx(interval)


def test_two_that_are_alike_do_not_differ():
    rows = np.arange(3, 30)
    right = rows // 2
    assert of_difference(right, right, rows)[1] == pytest.approx((0.0, 0.0), abs=1e-3)
    difference, (low, high) = of_difference(np.full(6, 4), np.zeros(6, np.int64), np.full(6, 4))
    assert (difference, high) == (1.0, 1.0)
    assert 0.2 < low < 0.6  # of six items
