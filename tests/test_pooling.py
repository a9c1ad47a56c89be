"""Pooled vectors against NumPy, whatever the pieces."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from stagewise.pooling import Pooling, pooled_channels

ROWS = arrays.arrays(
    np.float32, st.tuples(st.integers(1, 20), st.integers(1, 3)), elements=st.floats(-100, 100, width=32)
)


@given(ROWS, st.integers(1, 20))
def test_the_vector_does_not_depend_on_the_pieces(rows_NC, size):
    for pool, expected in (
        ("mean", rows_NC.mean(0, dtype=np.float64)),
        ("mean+std", np.concatenate([rows_NC.mean(0, dtype=np.float64), rows_NC.std(0, dtype=np.float64)])),
    ):
        pooling = Pooling(pool)
        for begin in range(0, len(rows_NC), size):
            pooling.add(rows_NC[begin : begin + size])
        vector_C = pooling.vector()
        assert (vector_C.dtype, len(vector_C)) == (np.float32, pooled_channels(rows_NC.shape[1], pool))
        np.testing.assert_allclose(vector_C, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("value", [0.1, -3e4])
def test_rows_that_are_all_the_same_have_no_deviation(value):
    pooling = Pooling("mean+std")
    pooling.add(np.full((1000, 2), value, np.float32))
    mean_C, std_C = np.split(pooling.vector(), 2)
    np.testing.assert_allclose(mean_C, value, rtol=1e-6)
    np.testing.assert_allclose(std_C, 0, atol=1e-6 * abs(value))
