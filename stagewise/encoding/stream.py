"""Run frozen stages over an item of any length in pieces: the rows of one pass, in bounded memory.

The same item gives the same bits by every way, because there is one way to cut it: every stage runs in pieces of its
own, whose places follow from the stage and the item's length alone, on rows in one order in memory. Whether the rows
below are computed just before or read from a float32 store, now or by a command that goes on after another, the same
numbers go through the same kernels. One pass over a whole item goes through kernels for another length, which may add
in another order: the last bits may differ.

Legend: C channels, T rows (of patches: …, H, W after the rows); every tensor here is one item, (1, C, T).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from stagewise.modules.stage_module import Block, StageModule, at_least_float32, autocast, run_block
from stagewise.modules.trial import Recurrent

# What the widest representation inside a piece may take, in float32; of several stages, each holds a piece.
PIECE_BYTES = 4 * 2**20

Read = Callable[[int, int], Tensor]  # rows [start, stop) of one item, (1, C, stop - start)


def stream(
    read: Read,
    length: int,
    stages: list[StageModule],
    piece_bytes: int = PIECE_BYTES,
    row_shape: tuple[int, ...] = (1,),
) -> Iterator[Tensor]:
    """Yield an item's rows after `stages`, piece by piece, (1, C, n), in order.

    Args:
        read: reads rows of the item as it goes into the first stage; only ever called from left to right,
            with overlaps as large as the receptive field.
        length: rows of the item there.
        stages: frozen, in evaluation mode, lowest first; none hands the rows through.
        piece_bytes: bound on the widest representation of a piece.
        row_shape: of what is read: (C,).
    """
    pieces, rows_per_piece = None, _rows(piece_bytes, math.prod(row_shape))
    for stage in stages:
        rows_per_piece, read = _rows(piece_bytes, _widest(stage)), _in_order(read)
        for block in stage.blocks:
            pieces = _through(block, read, length, rows_per_piece)
            read, length = Trail(pieces).read, block.geometry.rows(length)
    if pieces is None:
        pieces = (read(start, min(length, start + rows_per_piece)) for start in range(0, length, rows_per_piece))
    yield from pieces


def _in_order(read: Read) -> Read:
    """Give rows as a stage takes them: float32, in one order in memory, wherever they come from."""

    def rows(start: int, stop: int) -> Tensor:
        x = at_least_float32(read(start, stop))
        # A copy even where the order is right: what comes from numpy may begin anywhere, and kernels look at that.
        return x.clone(memory_format=torch.channels_last_3d if x.ndim == 5 else torch.contiguous_format)

    return rows


@torch.inference_mode()  # entered anew for each piece, so that it never leaks to the caller
def _through(block: Block, read: Read, length: int, rows_per_piece: int) -> Iterator[Tensor]:
    rows, state = block.geometry.rows(length), None
    for start in range(0, rows, rows_per_piece):
        stop = min(rows, start + rows_per_piece)
        if isinstance(block.module, Recurrent):
            x = at_least_float32(read(start, stop))
            with autocast(x.device.type, block.precision):
                piece, state = block.module.advance(x, state)
            yield piece
        else:
            begin, end, skip = block.geometry.piece(start, stop, length)
            yield run_block(block, read(begin, end))[:, :, skip : skip + stop - start]


class Trail:
    """The last pieces of a stream, so that the next block can read them with an overlap."""

    def __init__(self, pieces: Iterator[Tensor]) -> None:
        self.pieces, self.begin, self.kept = pieces, 0, torch.empty(1, 0, 0)

    def read(self, begin: int, end: int) -> Tensor:
        """Return rows begin to end; what lies before them is forgotten, also while they are computed."""
        while (there := self.begin + self.kept.shape[2]) < end:
            piece = next(self.pieces)
            if there < begin:  # they begin further on: calibration looks at a long item here and there
                self.kept, self.begin = piece, there
            else:
                self.kept = torch.cat([self.kept, piece], dim=2) if self.kept.shape[2] else piece
        self.kept = self.kept[:, :, begin - self.begin :]
        self.begin = begin
        return self.kept[:, :, : end - begin]


def _rows(piece_bytes: int, widest: float) -> int:
    return max(64, int(piece_bytes / (4 * widest)))


def _widest(stage: StageModule) -> float:
    """Count the numbers that a row of a stage takes where its representation is widest."""
    hop = stage.geometry.hop
    strides = [layer.stride for block in stage.blocks for layer in block.geometry.layers] or [1]
    return hop * max(math.prod(stage.in_shape), max(stage.z_channels, math.prod(stage.out_shape)) / strides[0])
