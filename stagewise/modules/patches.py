"""A stage's network on images: every patch is encoded alone, and the objective sees a grid of their means.

Legend: B images, C channels, H × W pixels; T patches of an image, row after row of its grid of R × S; N = B·T, T
patches of a crop, row after row of its grid of R × S.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from stagewise.errors import ConfigError
from stagewise.modules.geometry import Geometry
from stagewise.modules.stage_module import GROUP_BYTES, Block, StageModule, Window, at_least_float32, autocast

# Patches of an image: cut out, and each encoded alone, a group at a time.


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


CONTEXT_GRID = (7, 7)  # that a context is tried on: the paper's


class PatchStage(StageModule):
    """The gradient-isolated module of one stage, for patches (C, H, W) in the place of rows (C,).

    The objective sees patches by their spatial mean, as a grid (B, D, R, S); an image that is one patch alone is seen
    as the map (B, D, H, W) that it is. The stage above gets all maps, not their means. A context (B, D, R, S) → c
    depends on where an image is cropped: it serves the objective alone, and z is handed on.
    Löwe et al. 2019, section 4.1.

    Args:
        encoder: (N, C, H, W) → (N, D, H', W'); None hands x on as z.
        context: (B, D, R, S) → (B, D', R, S); None gives the objective z as c.
        in_shape: (C, H, W) of one patch of x.
        where: what to call the stage in an error.
        precision: what convolutions are computed in.

    Raises:
        ConfigError: the parts do not fit each other.
    """

    def __init__(
        self,
        encoder: nn.Module | None,
        context: nn.Module | None,
        in_shape: tuple[int, int, int],
        where: str = "stage",
        precision: torch.dtype = torch.float32,
    ) -> None:
        self._hold(encoder, context, precision)
        self.in_shape = self.out_shape = in_shape
        if encoder is not None:
            self.out_shape = _shape(encoder, in_shape, f"{where}.encoder")
            # As rows come: convolutions need no copies in another order.
            encoder.to(memory_format=torch.channels_last)
            each = EachPatch(encoder, max(in_shape, self.out_shape, key=_numbers))
            self.blocks, self.encoder_blocks = [Block(each, Geometry(), precision)], 1
        self.z_channels = self.c_channels = self.out_channels
        if context is not None:
            self.c_channels, *grid = _shape(context, (self.z_channels, *CONTEXT_GRID), f"{where}.context")
            if tuple(grid) != CONTEXT_GRID:
                raise ConfigError(
                    f"{where}.context: a context has one row per row of z: give it padding, and stride 1."
                )

    def forward(self, x_BCTHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return z, which is handed on, (B, D, T, H', W')."""
        z_BDTHW = self._encode(x_BCTHW)
        return z_BDTHW, z_BDTHW

    def window(self, x_BCTHW: Tensor, window: Window) -> tuple[Tensor, Tensor]:
        """Return z and c of training crops, (B, D, R, S)."""
        if self.encoder is None or window.rows == 1:
            return self._seen(self(x_BCTHW)[0], window)
        with autocast(x_BCTHW.device.type, self.precision):
            z_ND = self._each().means(x_BCTHW)
        return self._related(_on_grid(z_ND, window))

    def window_and_rows(self, x_BCTHW: Tensor, window: Window) -> tuple[Tensor, Tensor, Tensor]:
        """Return z and c of training crops, and the maps of all patches to hand on, float32 and without a graph."""
        if self.encoder is None or window.rows == 1:
            z_BDTHW, _ = self(x_BCTHW)
            return *self._seen(z_BDTHW, window), at_least_float32(z_BDTHW.detach())
        with autocast(x_BCTHW.device.type, self.precision):
            z_ND, rows_BDTHW = self._each().means_and_maps(x_BCTHW)
        return *self._related(_on_grid(z_ND, window)), rows_BDTHW

    def _each(self) -> EachPatch:
        (block,) = self.blocks
        assert isinstance(block.module, EachPatch)
        return block.module

    def _seen(self, z_BDTHW: Tensor, window: Window) -> tuple[Tensor, Tensor]:
        if window.rows == 1:
            return self._related(z_BDTHW.squeeze(2))
        return self._related(_on_grid(means(z_BDTHW).transpose(1, 2).flatten(0, 1), window))

    def _related(self, z_BDRS: Tensor) -> tuple[Tensor, Tensor]:
        if self.context is None:
            return z_BDRS, z_BDRS
        with autocast(z_BDRS.device.type, self.precision):
            return z_BDRS, self.context(z_BDRS)


def means(z_BDTHW: Tensor) -> Tensor:
    """Return the spatial mean of every patch, (B, D, T), at least float32."""
    return at_least_float32(z_BDTHW).mean((3, 4))


def _on_grid(z_ND: Tensor, window: Window) -> Tensor:
    assert window.grid is not None
    z_BDRS: Tensor = z_ND.unflatten(0, (-1, *window.grid)).movedim(-1, 1)
    return z_BDRS


def _numbers(shape: tuple[int, ...]) -> int:
    return shape[0] * shape[1] * shape[2]


@torch.no_grad()
def _shape(module: nn.Module, shape: tuple[int, ...], where: str) -> tuple[int, ...]:
    """Return the shape that a module gives one image of a shape, by trying."""
    training = module.training
    try:
        with torch.random.fork_rng(devices=[]):
            y = module.eval()(torch.zeros(1, *shape))
    except Exception as error:  # whatever a user's module raises
        raise ConfigError(
            f"{where}: {type(module).__name__} does not take an input of shape (N, {', '.join(map(str, shape))}): "
            f"{error}. Make it take {shape[0]} channels, of images as resnet and pixelcnn do."
        ) from error
    finally:
        module.train(training)
    if not isinstance(y, Tensor) or y.ndim != 4:
        raise ConfigError(
            f"{where}: {type(module).__name__} must return one tensor of shape (N, D, H, W). "
            "Wrap it in a class of your own that does."
        )
    return tuple(y.shape[1:])
