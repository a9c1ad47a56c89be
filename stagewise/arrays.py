"""Arrays by what they hold: whole numbers that count or point, and the numbers that are computed with."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
