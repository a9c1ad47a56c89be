"""A stage's network: an encoder x → z, a context z → c, or both; what it hands on is c if there is one.

Legend: B items, C channels, T rows (of patches: …, H, W after the rows).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stagewise.errors import ConfigError
from stagewise.modules.geometry import Geometry
from stagewise.modules.measured_geometry import Recurrent, geometry_of, out_channels

# Of the widest representation of what goes through at a time: larger blocks go back to the system, to be zeroed.
GROUP_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Block:
    """Modules run as one: a stack of local ones, or a single recurrent one."""

    module: nn.Module
    geometry: Geometry
    precision: torch.dtype


def autocast(device: str, precision: torch.dtype) -> AbstractContextManager[object]:
    """Compute matrix products in `precision`; parameters and sums stay float32."""
    return torch.autocast(device, enabled=False) if precision == torch.float32 else torch.autocast(device, precision)


def at_least_float32(x_BCT: Tensor) -> Tensor:
    """Undo a lower precision of the block below."""
    return x_BCT.to(torch.promote_types(x_BCT.dtype, torch.float32))


class StageModule(nn.Module):
    """The gradient-isolated module of one stage.

    Args:
        encoder: x (B, C, T) → z; None hands x on as z.
        context: z → c, one row of c for each row of z; None hands z on as c.
        in_channels: C, channels of x.
        where: what to call the stage in an error.
        precision: what matrix products are computed in; recurrent parts always use float32, because their
            errors would add up from row to row.

    Attributes:
        in_shape, out_shape: of one row of x, and of what is handed on: (C,).
        z_channels, c_channels: of what the objective sees.

    Raises:
        ConfigError: the parts do not fit each other, or their rows see an unbounded window.
    """

    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]

    def __init__(
        self,
        encoder: nn.Module | None,
        context: nn.Module | None,
        in_channels: int,
        where: str = "stage",
        precision: torch.dtype = torch.float32,
    ) -> None:
        self._hold(encoder, context, precision)
        self.z_channels = channels = in_channels
        for name, part in (("encoder", encoder), ("context", context)):
            if part is None:
                continue
            blocks = list(_split(part, channels, f"{where}.{name}", precision))
            hop = _geometry(blocks).hop
            if name == "context" and hop != 1:
                raise ConfigError(
                    f"{where}.context: a context has one row per row of z, but its stride is {hop}. "
                    "Make it part of the encoder."
                )
            self.blocks += blocks
            channels = out_channels(part, channels, f"{where}.{name}")
            if name == "encoder":
                self.z_channels, self.encoder_blocks = channels, len(blocks)
        self.c_channels = channels
        self.in_shape, self.out_shape = (in_channels,), (channels,)

    def _hold(self, encoder: nn.Module | None, context: nn.Module | None, precision: torch.dtype) -> None:
        super().__init__()
        self.encoder, self.context, self.precision = encoder, context, precision
        self.blocks: list[Block] = []  # those of the encoder, then those of the context
        self.encoder_blocks = 0

    @property
    def in_channels(self) -> int:
        """Channels of x."""
        return self.in_shape[0]

    @property
    def out_channels(self) -> int:
        """Channels of what is handed on."""
        return self.out_shape[0]

    @property
    def geometry(self) -> Geometry:
        """Which rows of x a row of the output sees."""
        return _geometry(self.blocks)

    @property
    def recurrent(self) -> bool:
        """Whether the output's rows depend on everything before them."""
        return self.geometry.recurrent

    def forward(self, x_BCT: Tensor) -> tuple[Tensor, Tensor]:
        """Return z and what is handed on, for whole items, or for pieces that are cropped afterwards."""
        z_BCT = self._encode(x_BCT)
        return z_BCT, self._relate(z_BCT)

    def window(self, x_BCT: Tensor, window: Window) -> tuple[Tensor, Tensor]:
        """Return z and c of training windows, from the input rows that `window` says they were read with."""
        # A state is zero where the window begins: rows that the cut has spoilt must not reach it.
        if isinstance(self.context, Recurrent):
            z_BCT = window(self._encode(x_BCT))
            return z_BCT, self._relate(z_BCT)
        if isinstance(self.encoder, Recurrent) and self.context is None:
            return (z_BCT := self._encode(window(x_BCT))), z_BCT
        z_BCT, c_BCT = self(x_BCT)
        return (z := window(z_BCT)), z if c_BCT is z_BCT else window(c_BCT)

    def window_and_rows(self, x_BCT: Tensor, window: Window) -> tuple[Tensor, Tensor, Tensor]:
        """Return z and c of windows, and all rows that their pieces hand on, float32 and without a graph."""
        z_BCT, c_BCT = self(x_BCT)
        z = window(z_BCT)
        return z, z if c_BCT is z_BCT else window(c_BCT), at_least_float32(c_BCT.detach())

    def _encode(self, x_BCT: Tensor) -> Tensor:
        for block in self.blocks[: self.encoder_blocks]:
            x_BCT = run_block(block, x_BCT)
        return x_BCT

    def _relate(self, z_BCT: Tensor) -> Tensor:
        for block in self.blocks[self.encoder_blocks :]:
            z_BCT = run_block(block, z_BCT)
        return z_BCT


def run_block(block: Block, x_BCT: Tensor) -> Tensor:
    """Run a block in its precision."""
    with autocast(x_BCT.device.type, block.precision):
        full = block.precision == torch.float32
        result: Tensor = block.module(at_least_float32(x_BCT) if full else x_BCT)
    return result


def _split(part: nn.Module, channels: int, where: str, precision: torch.dtype) -> Iterator[Block]:
    """Yield a part as one block, or, if there are recurrent modules among its layers, as one per layer."""
    geometry = geometry_of(part, channels, where)
    if not geometry.recurrent or isinstance(part, Recurrent):
        yield Block(part, geometry, torch.float32 if geometry.recurrent else precision)
        return
    for name, child in part.named_children():
        yield from _split(child, channels, f"{where}.{name}", precision)
        channels = out_channels(child, channels, f"{where}.{name}")


def _geometry(blocks: Sequence[Block]) -> Geometry:
    return sum((block.geometry for block in blocks), Geometry())


@dataclass(frozen=True)
class Window:
    """Cuts every item's `rows` rows out of its piece, after its own `skip`; patches have a `grid` of them, R × S."""

    skip_B: tuple[int, ...]  # noqa: N815
    rows: int
    grid: tuple[int, int] | None = None

    def __call__(self, z_BCT: Tensor) -> Tensor:
        """Return (B, C, rows)."""
        skips = set(self.skip_B)
        if len(skips) == 1:  # by far the most common: no window touches the beginning of its item
            return z_BCT.narrow(2, skips.pop(), self.rows)
        return torch.stack([z.narrow(1, skip, self.rows) for z, skip in zip(z_BCT, self.skip_B, strict=True)])

    def of(self, items: slice) -> Window:
        """Return the windows of a part of the batch."""
        return Window(self.skip_B[items], self.rows, self.grid)


@torch.no_grad()
def represent(stages: Sequence[StageModule], x_BCT: Tensor) -> Tensor:
    """Run frozen stages over pieces without a graph: float32 rows for the stage above, not yet cropped.

    A few items go through at a time, so that this never takes more memory than the step it is done for.
    """
    if not stages:
        return x_BCT
    rows, widest = x_BCT.shape[2], 1
    for stage in stages:
        rows = stage.geometry.rows(rows)
        widest = max(widest, rows * math.prod(stage.out_shape) * 4)
    parts = []
    for part_bCT in x_BCT.split(max(1, GROUP_BYTES // widest)):
        for stage in stages:
            part_bCT = stage(part_bCT)[1]
        parts.append(at_least_float32(part_bCT))
    return torch.cat(parts) if len(parts) > 1 else parts[0]
