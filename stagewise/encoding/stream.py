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
from typing import NamedTuple

import torch
from torch import Tensor, nn

from stagewise.modules.geometry import Geometry
from stagewise.modules.measured_geometry import Recurrent
from stagewise.modules.stage_module import Block, StageModule, at_least_float32, autocast, run_block

# What the widest representation inside a piece may take, in float32; of several stages, each holds a piece.
PIECE_BYTES = 4 * 2**20

Read = Callable[[int, int], Tensor]  # rows [start, stop) of one item, (1, C, stop - start)
States = dict[tuple[int, int], Tensor]  # of recurrent blocks: by the block's number, and the row that it is handed to


class _Part(NamedTuple):
    """A block, whether it is its stage's lowest, the rows that go into it, and how many come out at a time."""

    block: Block
    lowest: bool
    length: int
    step: int


def stream(
    read: Read,
    length: int,
    stages: list[StageModule],
    piece_bytes: int = PIECE_BYTES,
    row_shape: tuple[int, ...] = (1,),
    first: int = 0,
    states: States | None = None,
) -> Iterator[Tensor]:
    """Yield an item's rows after `stages`, piece by piece, (1, C, n), in order.

    Args:
        read: reads rows of the item as it goes into the first stage; only ever called from left to right,
            with overlaps as large as the receptive field.
        length: rows of the item there.
        stages: frozen, in evaluation mode, lowest first; none hands the rows through.
        piece_bytes: bound on the widest representation of a piece.
        row_shape: of what is read: (C,).
        first: the row to begin with; pieces before it that must be computed are yielded with no rows.
        states: what `first` needs not to compute everything before it; holds, with every piece, what the row after
            it needs.
    """
    states, parts, rows = {} if states is None else states, list[_Part](), length
    for stage in stages:
        step = _rows(piece_bytes, _widest(stage))
        for block in stage.blocks:
            parts.append(_Part(block, block is stage.blocks[0], rows, step))
            rows = block.geometry.rows(rows)
    if not parts:
        step = _rows(piece_bytes, math.prod(row_shape))
        parts.append(_Part(Block(nn.Identity(), Geometry(), torch.float32), False, length, step))
    begins = _begins(parts, first, states)
    for number, (part, begin) in enumerate(zip(parts, begins, strict=True)):
        pieces = _through(part, _in_order(read, part.lowest), number, begin, states)
        read = Trail(pieces, begin).read
    at = begins[-1]
    for piece in pieces:
        skip, at = max(0, first - at), at + piece.shape[2]
        needed = _begins(parts, at, states)
        for number, row in [key for key in states if key[1] < needed[key[0]]]:
            del states[number, row]
        yield piece[:, :, skip:]


def _begins(parts: list[_Part], first: int, states: States) -> list[int]:
    """Return where the pieces of each part begin, for the rows from `first` on to come out of the last."""
    begins: list[int] = []
    for number, (block, _, length, step) in reversed(list(enumerate(parts))):
        if isinstance(block.module, Recurrent):  # a state of zero is known where the item begins
            known = (row for of, row in states if of == number and row <= first and row % step == 0)
            first = begin = max(known, default=0)
        else:
            begin = first - first % step
            first, _, _ = block.geometry.piece(begin, begin + 1, length)
        begins.insert(0, begin)
    return begins


def _in_order(read: Read, float32: bool) -> Read:
    """Give rows as a block takes them: in one order in memory, wherever they come from; a stage takes float32."""

    def rows(start: int, stop: int) -> Tensor:
        x = at_least_float32(read(start, stop)) if float32 else read(start, stop)
        # A copy even where the order is right: what comes from numpy may begin anywhere, and kernels look at that.
        return x.clone(memory_format=torch.channels_last_3d if x.ndim == 5 else torch.contiguous_format)

    return rows


@torch.inference_mode()  # entered for each piece, so that it never leaks to the caller
def _through(part: _Part, read: Read, number: int, begin: int, states: States) -> Iterator[Tensor]:
    block, _, length, step = part
    rows, state = block.geometry.rows(length), states.get((number, begin))
    for start in range(begin, rows, step):
        stop = min(rows, start + step)
        if isinstance(block.module, Recurrent):
            x = at_least_float32(read(start, stop))
            with autocast(x.device.type, block.precision):
                piece, state = block.module.advance(x, state)
            if isinstance(state, Tensor):  # a module of one's own may carry something else
                states[number, stop] = state.clone()  # it may go on in place
            yield piece
        else:
            low, high, skip = block.geometry.piece(start, stop, length)
            yield run_block(block, read(low, high))[:, :, skip : skip + stop - start]


class Trail:
    """The last pieces of a stream, so that the next block can read them with an overlap."""

    def __init__(self, pieces: Iterator[Tensor], begin: int = 0) -> None:
        self.pieces, self.begin, self.kept = pieces, begin, torch.empty(1, 0, 0)

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
