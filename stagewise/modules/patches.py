"""Patches of an image: cut out, and each encoded alone, a group at a time.

Legend: B images, C channels, H × W pixels; T patches of an image, row after row of its grid of R × S; N = B·T.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

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


class EachPatch(nn.Module):
    """An encoder of images, applied to every patch: x (B, C, T, H, W) → z (B, D, T, H', W'), a group at a time.

    A patch is encoded alone, so groups give the same rows and the same gradient; the temporaries of only one group
    exist at a time, and what is not kept for backward never does for all. Where batch norm makes patches depend on each
    other, all of a batch are one group: its statistics are those of the batch.

    Args:
        encoder: (N, C, H, W) → (N, D, H', W').
        widest: (C, H, W) of a patch where it takes the most memory.
    """

    def __init__(self, encoder: nn.Module, widest: tuple[int, ...]) -> None:
        super().__init__()
        self.encoder, self.group = encoder, max(1, GROUP_BYTES // (4 * math.prod(widest)))
        self.together = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encoder.modules())

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        """Return the representation of every patch, as a map."""
        if torch.is_grad_enabled():
            return self._rows(torch.cat(list(self.groups(x_BCTHW))), len(x_BCTHW))
        return self.means_and_maps(x_BCTHW)[1]

    def means(self, x_BCTHW: Tensor) -> Tensor:
        """Return the spatial mean of every patch's map (N, D), at least float32.

        Each group's maps give way to their means at once: backward asks only for the shape of what was averaged.
        """
        return torch.cat([_mean(maps) for maps in self.groups(x_BCTHW)])

    def means_and_maps(self, x_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means, and the maps (B, D, T, H', W') without a graph: copied group by group, never held twice."""
        means: list[Tensor] = []
        maps_NDHW, done = x_BCTHW, 0
        for part_nDHW in self.groups(x_BCTHW):
            if not means:
                form = torch.channels_last if _channels_last(part_nDHW) else torch.contiguous_format
                shape = (x_BCTHW.shape[0] * x_BCTHW.shape[2], *part_nDHW.shape[1:])
                dtype, device = _at_least_float32(part_nDHW), part_nDHW.device
                maps_NDHW = torch.empty(shape, dtype=dtype, device=device, memory_format=form)
            maps_NDHW[done : done + len(part_nDHW)] = part_nDHW.detach()
            done += len(part_nDHW)
            means.append(_mean(part_nDHW))
        return torch.cat(means), self._rows(maps_NDHW, len(x_BCTHW))

    def groups(self, x_BCTHW: Tensor) -> Iterator[Tensor]:
        """Yield the maps (n, D, H', W') of one group of patches after another."""
        patches_NCHW = x_BCTHW.transpose(1, 2).flatten(0, 1)
        together = self.together and self.training
        for part_nCHW in patches_NCHW.split(len(patches_NCHW) if together else self.group):
            yield self.encoder(part_nCHW)

    @staticmethod
    def _rows(maps_NDHW: Tensor, items: int) -> Tensor:
        z_BDTHW: Tensor = maps_NDHW.unflatten(0, (items, -1)).transpose(1, 2)
        return z_BDTHW


def _mean(maps_NDHW: Tensor) -> Tensor:
    maps_NDHW = maps_NDHW.to(_at_least_float32(maps_NDHW))
    if _channels_last(maps_NDHW):  # its gradient then lies as the convolutions want it, and is not copied once more
        return maps_NDHW.permute(0, 2, 3, 1).flatten(1, 2).mean(1)
    return maps_NDHW.mean((2, 3))


def _at_least_float32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
