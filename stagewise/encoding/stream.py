"""Run frozen stages over an item of any length in pieces: the same rows as one pass, in bounded memory.

Legend: C channels, T rows (of patches: …, H, W after the rows); every tensor here is one item, (1, C, T).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from stagewise.modules.recurrent import Recurrent
from stagewise.modules.stage_module import (
    Block,
    StageModule,
    at_least_float32,
    autocast,
    merged_blocks,
    run_block,
)

PIECE_BYTES = 8 * 2**20  # what the widest representation inside a piece may take, in float32

Read = Callable[[int, int], Tensor]  # rows [start, stop) of one item, (1, C, stop - start)


def stream(read: Read, length: int, stages: list[StageModule], piece_bytes: int = PIECE_BYTES) -> Iterator[Tensor]:
    """Yield an item's rows after `stages`, piece by piece, (1, C, n), in order.

    Args:
        read: reads rows of the item as it goes into the first stage; only ever called from left to right,
            with overlaps as large as the receptive field.
        length: rows of the item there.
        stages: frozen, in evaluation mode, lowest first; none hands the rows through.
        piece_bytes: bound on the widest representation of a piece.
    """
    blocks = list(merged_blocks(stages))
    rows_per_piece = _rows_per_piece(stages, piece_bytes)
    if not blocks:
        yield from (read(start, min(length, start + rows_per_piece)) for start in range(0, length, rows_per_piece))
        return
    pieces: Iterable[Tensor] = ()
    for block in blocks:
        pieces = _through(block, read, length, rows_per_piece)
        read, length = _Trail(iter(pieces)).read, block.geometry.rows(length)
    yield from pieces


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


class _Trail:
    """The last pieces of a stream, so that the next block can read them with an overlap."""

    def __init__(self, pieces: Iterator[Tensor]) -> None:
        self.pieces, self.begin, self.kept = pieces, 0, torch.empty(0)

    def read(self, begin: int, end: int) -> Tensor:
        while self.begin + self.kept.shape[-1] < end:
            piece = next(self.pieces)
            self.kept = torch.cat([self.kept, piece], dim=2) if self.kept.ndim > 1 else piece
        self.kept = self.kept[:, :, begin - self.begin :]
        self.begin = begin
        return self.kept[:, :, : end - begin]


def _rows_per_piece(stages: list[StageModule], piece_bytes: int) -> int:
    """Choose how many of the top's rows go through at once, from the widest representation on the way."""
    hop = 1
    for stage in stages:
        hop *= stage.geometry.hop
    widest, below = float(math.prod(stages[0].in_shape) if stages else 1) * hop, hop
    for stage in stages:
        hops = [layer.stride for block in stage.blocks for layer in block.geometry.layers] or [1]
        widest = max(widest, max(stage.z_channels, math.prod(stage.out_shape)) * below / hops[0])
        below //= stage.geometry.hop
    return max(64, int(piece_bytes / (4 * widest)))
