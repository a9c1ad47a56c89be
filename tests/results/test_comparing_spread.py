"""The interval over seeds against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stagewise.results.compare import half_width
from stagewise.runs.facts import student


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_half_width_is_that_of_scipy(values):
    spread = stats.sem(values)
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=spread) if spread else (0, 0)
    assert half_width(values) == pytest.approx((expected[1] - expected[0]) / 2, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("freedom", [*range(1, 60), 100, 1000, 10**6])
def test_the_quantile_is_that_of_scipy(freedom):
    expected = stats.t.ppf(0.975, freedom)
    assert student(freedom) == pytest.approx(expected, rel=1e-13 if freedom <= 30 else 2e-8)
