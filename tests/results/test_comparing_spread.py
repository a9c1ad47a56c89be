"""The interval over seeds against scipy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from stagewise.results.compare import half_width


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12))
def test_half_width_is_that_of_scipy(values):
    spread = stats.sem(values)
    expected = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=spread) if spread else (0, 0)
    assert half_width(values) == pytest.approx((expected[1] - expected[0]) / 2, rel=1e-6, abs=1e-12)
