"""Patches of an image: cut out, and each encoded alone, a group at a time.

Legend: B images, C channels, H × W pixels; a grid of R × S patches of P × P pixels; N = B·R·S patches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

GROUP_BYTES = 16 * 2**20  # of the widest representation: larger blocks go back to the system each time, to be zeroed


def cut_patches(x_BCHW: Tensor, size: int = 16, stride: int = 8) -> Tensor:
    """Return the patches of every image, row by row: (B, R, S, C, size, size).

    Löwe et al. 2019, section 4.1: 16 × 16 patches that overlap by half; a 64 × 64 crop has 7 × 7 of them.

    Raises:
        ValueError: the images are smaller than a patch.
    """
    if min(x_BCHW.shape[2:]) < size:
        raise ValueError(f"images of {x_BCHW.shape[2]} × {x_BCHW.shape[3]} pixels hold no patch of {size} × {size}")
    return x_BCHW.unfold(2, size, stride).unfold(3, size, stride).permute(0, 2, 3, 1, 4, 5)


def pooled(encoder: nn.Module, x_NCHW: Tensor, group: int) -> Tensor:
    """Return the spatial mean of every patch's representation (N, D): what the loss and the probes see.

    A patch is encoded alone, so groups give the same rows and the same gradient; the temporaries of only one group
    exist at a time, and what is not kept for backward never does for all.

    Args:
        encoder: (N, C, H, W) → (N, D, H', W').
        x_NCHW: patches, or the representation of patches by the module below.
        group: patches that go through at once.
    """
    return torch.cat([encoder(part).mean((2, 3)) for part in x_NCHW.split(group)])
