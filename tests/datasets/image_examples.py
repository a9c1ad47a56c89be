"""Made-up images for these tests, and patches cut by the definition."""

from __future__ import annotations

import numpy as np
from PIL import Image


def picture(seed: int, height: int = 40, width: int = 48, channels: int = 3) -> np.ndarray:
    """Pixels in which no two patches are alike: uint8 (H, W, C)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def save(path, pixels: np.ndarray, **options) -> None:
    """Write pixels to a file, without loss where its suffix allows that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(path, **options)


def naive_patches(pixels_HWC: np.ndarray, size: int, stride: int, mean, std) -> np.ndarray:
    """Patches in raster order, each cut and standardised alone, in float64: (C, R·S, size, size)."""
    x_HWC = (pixels_HWC.astype(np.float64) / 255 - np.array(mean)) / np.array(std)
    height, width, _ = x_HWC.shape
    return np.stack(
        [
            x_HWC[top : top + size, left : left + size].transpose(2, 0, 1)
            for top in range(0, height - size + 1, stride)
            for left in range(0, width - size + 1, stride)
        ],
        axis=1,
    )
