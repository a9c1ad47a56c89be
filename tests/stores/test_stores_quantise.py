"""Eight bits a value: error of half a step, exact zeros and constants, every device the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stagewise.errors import NumberError
from stagewise.stores import Scaling

numbers = st.floats(-(2.0**100), 2.0**100, width=32)


def fit(low: float, high: float) -> Scaling:
    return Scaling.fit(np.array([low], np.float32), np.array([high], np.float32))


@given(numbers, numbers)
@example(0.0, 1.0)
@example(0.0, 0.0)
@example(-3e38, 3e38)
@example(1e6, np.float32(1e6) + np.float32(0.0625))
@example(1e-45, 1e-40)
def test_range_is_covered_to_half_a_step(one, other):
    low, high = np.float32(min(one, other)), np.float32(max(one, other))
    scaling = fit(low, high)
    x = np.clip(np.linspace(np.float64(low), np.float64(high), 301), low, high).astype(np.float32)[:, None]
    q, saturated = scaling.quantise(x)
    assert saturated == 0
    error = np.abs(scaling.dequantise(q).astype(np.float64) - x)
    rounding = 2.0**-22 * max(abs(float(low)), abs(float(high)))
    assert error.max() <= 0.5001 * scaling.scale_C[0] + rounding
    assert scaling.scale_C[0] <= (np.float64(high) - low) / 252 + rounding + 2e-38


@given(st.floats(0, 2.0**100, width=32), st.floats(0, 2.0**100, width=32))
@example(0.0, 6.0)
@example(6.0, 0.0)
def test_zero_stays_exactly_zero(below, above):
    scaling = fit(-below, above)
    q, saturated = scaling.quantise(np.zeros((1, 1), np.float32))
    assert saturated == 0
    assert scaling.dequantise(q)[0, 0] == 0.0
    fused = np.float32(np.float64(q) * np.float64(scaling.scale_C) + np.float64(scaling.offset_C))
    assert fused[0, 0] == 0.0


@given(numbers)
def test_constant_channel_is_exact_and_anything_else_saturates(value):
    scaling = fit(value, value)
    x = np.array([[value], [np.float32(value) + np.float32(1 + abs(value))]], np.float32)
    q, saturated = scaling.quantise(x)
    assert scaling.dequantise(q[:1])[0, 0] == np.float32(value)
    assert saturated == 1


def test_fused_and_separate_multiply_add_agree_to_the_bit():
    rng = np.random.default_rng(0)
    low, high = rng.normal(0, 3, (2, 4096)).astype(np.float32)
    scaling = Scaling.fit(np.minimum(low, high), np.maximum(low, high))
    q = np.arange(-127, 128, dtype=np.int8)[:, None].repeat(4096, 1)
    fused = (q.astype(np.float64) * scaling.scale_C + scaling.offset_C).astype(np.float32)
    np.testing.assert_array_equal(scaling.dequantise(q), fused)


def test_saturated_values_are_cut_and_counted():
    scaling = Scaling.fit(np.array([-1.0, 2.0]), np.array([1.0, 3.0]))
    q, saturated = scaling.quantise(np.array([[5.0, 2.5], [-7.0, 3.5], [0.5, 3e38]], np.float32))
    assert saturated == 4
    assert (q[0, 0], q[1, 0], q[1, 1], q[2, 1]) == (127, -127, 127, 127)


def test_writes_into_what_it_is_given():
    scaling = fit(0, 1)
    out = np.zeros((3, 1), np.int8)
    q, _ = scaling.quantise(np.ones((3, 1), np.float32), out)
    assert q is out
    assert (out > 100).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_range_that_is_no_number(bad):
    with pytest.raises(NumberError, match=r"channel 1 ranges from 0.0 to .* `stagewise stage NAME`"):
        Scaling.fit(np.array([0.0, 0.0]), np.array([1.0, bad]))
