"""From pixels to standardised patches, and the random crops that stages are trained on.

Of torchvision only the functions are used: its transform classes draw from torch's global generator, which other
threads use as well, so that a crop could not be drawn again.

Shape suffixes: H × W pixels of an image, C channels, R × S grid of patches, P × P pixels of a patch.
"""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms.v2 import functional

from stagewise.arrays import Floats
from stagewise.datasets.image_files import Pixels, Preprocessing
from stagewise.seeds import derive_seed


def random_crop(pixels_HWC: Pixels, how: Preprocessing, *seed: int) -> Pixels:
    """Cut a training crop out of an image at any pixel, and mirror it half of the time: uint8 (H', W', C).

    Löwe et al. 2019, section 4.1. No side of the image may be shorter than a crop.
    """
    rng = np.random.Generator(np.random.Philox(derive_seed("crop", *seed)))
    image_CHW = _channels_first(pixels_HWC)
    top, left = (int(rng.integers(side - how.crop + 1)) for side in image_CHW.shape[1:])
    image_CHW = functional.crop(image_CHW, top, left, how.crop, how.crop)
    if how.flip and rng.random() < 0.5:
        image_CHW = functional.horizontal_flip(image_CHW)
    return _channels_last(image_CHW)


def centre_crop(pixels_HWC: Pixels, how: Preprocessing) -> Pixels:
    """Cut as large a piece as a training crop out of the middle of an image: uint8 (H', W', C)."""
    return _channels_last(functional.center_crop(_channels_first(pixels_HWC), [how.crop, how.crop]))


def patches(pixels_HWC: Pixels, how: Preprocessing) -> Floats:
    """Standardise an image and cut it into patches, in raster order: float32 (C, R·S, P, P)."""
    x_CHW = functional.to_dtype(_channels_first(pixels_HWC), torch.float32, scale=True)
    x_CHW = functional.normalize(x_CHW, how.means, how.stds)
    x_CRSPP = x_CHW.unfold(1, how.side, how.stride).unfold(2, how.side, how.stride)
    return np.asarray(x_CRSPP.flatten(1, 2), np.float32)


def _channels_first(pixels_HWC: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels_HWC).permute(2, 0, 1)


def _channels_last(image_CHW: torch.Tensor) -> Pixels:
    return np.asarray(image_CHW.permute(1, 2, 0), np.uint8)
