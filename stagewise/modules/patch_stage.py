"""A stage's network on images: every patch is encoded alone, and the objective sees a grid of their means.

Legend: B images, C or D channels, T patches of a crop, row after row of its grid of R × S, H × W pixels of each.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stagewise.errors import ConfigError
from stagewise.modules.geometry import Geometry
from stagewise.modules.patches import EachPatch
from stagewise.modules.stage_module import Block, Crop, StageModule, at_least_float32, autocast

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

    def window(self, x_BCTHW: Tensor, crop: Crop) -> tuple[Tensor, Tensor]:
        """Return z and c of training crops, (B, D, R, S)."""
        if self.encoder is None or crop.rows == 1:
            return self._seen(self(x_BCTHW)[0], crop)
        with autocast(x_BCTHW.device.type, self.precision):
            z_ND = self._each().means(x_BCTHW)
        return self._related(_on_grid(z_ND, crop))

    def window_and_rows(self, x_BCTHW: Tensor, crop: Crop) -> tuple[Tensor, Tensor, Tensor]:
        """Return z and c of training crops, and the maps of all patches to hand on, float32 and without a graph."""
        if self.encoder is None or crop.rows == 1:
            z_BDTHW, _ = self(x_BCTHW)
            return *self._seen(z_BDTHW, crop), at_least_float32(z_BDTHW.detach())
        with autocast(x_BCTHW.device.type, self.precision):
            z_ND, rows_BDTHW = self._each().means_and_maps(x_BCTHW)
        return *self._related(_on_grid(z_ND, crop)), rows_BDTHW

    def _each(self) -> EachPatch:
        (block,) = self.blocks
        assert isinstance(block.module, EachPatch)
        return block.module

    def _seen(self, z_BDTHW: Tensor, crop: Crop) -> tuple[Tensor, Tensor]:
        if crop.rows == 1:
            return self._related(z_BDTHW.squeeze(2))
        return self._related(_on_grid(means(z_BDTHW).transpose(1, 2).flatten(0, 1), crop))

    def _related(self, z_BDRS: Tensor) -> tuple[Tensor, Tensor]:
        if self.context is None:
            return z_BDRS, z_BDRS
        with autocast(z_BDRS.device.type, self.precision):
            return z_BDRS, self.context(z_BDRS)


def means(z_BDTHW: Tensor) -> Tensor:
    """Return the spatial mean of every patch, (B, D, T), at least float32."""
    return at_least_float32(z_BDTHW).mean((3, 4))


def _on_grid(z_ND: Tensor, crop: Crop) -> Tensor:
    assert crop.grid is not None
    z_BDRS: Tensor = z_ND.unflatten(0, (-1, *crop.grid)).movedim(-1, 1)
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
