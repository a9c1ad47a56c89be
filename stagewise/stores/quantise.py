"""Eight bits a value: per-channel scale and offset under which zero stays exactly zero.

A dequantised value is q * scale + offset, q an integer from -127 to 127. The scale is rounded up to 17
significant bits: q * scale is then exact in float32, so that the value does not depend on whether a device
fuses multiply and add.

Shapes: C channels (the last axis of x and q).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stagewise.errors import NumberError

FloatArray = npt.NDArray[np.float32]
Int8Array = npt.NDArray[np.int8]

LIMIT = 127
SCALE_BITS = 17
SMALLEST = float(np.finfo(np.float32).tiny)  # scale of a constant channel: anything but its constant saturates


@dataclass(frozen=True, eq=False)
class Scaling:
    """Scale and offset of every channel, float32 (C,)."""

    scale_C: FloatArray  # noqa: N815
    offset_C: FloatArray  # noqa: N815

    @classmethod
    def fit(cls, min_C: npt.NDArray[Any], max_C: npt.NDArray[Any]) -> Scaling:
        """Cover [min, max] of every channel; a constant channel and a zero within the range are kept exactly.

        Raises:
            NumberError: a range is not finite.
        """
        low_C, high_C = np.asarray(min_C, np.float64), np.asarray(max_C, np.float64)
        bad_C = ~(np.isfinite(low_C) & np.isfinite(high_C))
        if bad_C.any():
            channel = int(bad_C.argmax())
            raise NumberError(
                f"channel {channel} ranges from {low_C[channel]} to {high_C[channel]} and cannot be stored: "
                "the frozen encoder gives NaN or infinity. Lower lr in its [[stage]], then type "
                "`stagewise stage NAME`."
            )
        middle_C = (low_C + (high_C - low_C) / 2).astype(np.float32)
        reach_C = np.maximum(high_C - middle_C, middle_C - low_C)  # float32 may have moved the middle
        has_zero_C = (low_C <= 0) & (high_C >= 0)
        # Moving the grid so that zero lies on it costs at most half a step at either end: that half is spare.
        scale_C = _round_up(reach_C / np.where(has_zero_C, LIMIT - 0.5, LIMIT))
        offset_C = np.where(has_zero_C, np.rint(middle_C / scale_C) * scale_C, middle_C)
        return cls(scale_C.astype(np.float32), offset_C.astype(np.float32))

    def quantise(self, x: FloatArray, out: Int8Array | None = None) -> tuple[Int8Array, int]:
        """Give the nearest q of every value, and how many lay outside the range and were cut to its end.

        Args:
            x: finite values (..., C).
            out: where to write q, of the shape of x; a new array when left out.
        """
        out = np.empty(x.shape, np.int8) if out is None else out
        with np.errstate(over="ignore"):  # what overflows here lies outside the range and is cut to its end
            steps = np.subtract(x, self.offset_C)
            np.multiply(steps, 1 / self.scale_C, out=steps)
        np.rint(steps, out=steps)
        saturated = 0
        if steps.size and (steps.max() > LIMIT or steps.min() < -LIMIT):
            saturated = int(np.count_nonzero(np.abs(steps) > LIMIT))
            np.clip(steps, -LIMIT, LIMIT, out=steps)
        np.copyto(out, steps, casting="unsafe")
        return out, saturated

    def dequantise(self, q: Int8Array) -> FloatArray:
        """Give the float32 values that q (..., C) stands for."""
        x = q.astype(np.float32)
        x *= self.scale_C
        x += self.offset_C
        return x


def _round_up(scale_C: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    mantissa_C, exponent_C = np.frexp(np.maximum(scale_C, SMALLEST))
    rounded_C: npt.NDArray[np.float64] = np.ldexp(np.ceil(np.ldexp(mantissa_C, SCALE_BITS)), exponent_C - SCALE_BITS)
    return rounded_C
