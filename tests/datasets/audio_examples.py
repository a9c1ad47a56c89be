"""Made-up audio for these tests."""

from __future__ import annotations

import numpy as np

RATE = 16_000


def noise(seed: int, samples: int = 4000, channels: int = 1) -> np.ndarray:
    """Samples that look like speech to an encoder: correlated, below full scale."""
    white = np.random.default_rng(seed).standard_normal((samples, channels)).astype(np.float32)
    return np.clip(0.05 * np.cumsum(white, axis=0) * 0.2, -0.9, 0.9).astype(np.float32)
