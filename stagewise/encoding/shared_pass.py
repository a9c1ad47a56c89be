"""Frozen stages on top of each other, every one reading what a store of the one below would give, computed once.

Legend: B items, C channels, n rows of a piece (of patches: …, H, W after the rows).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from stagewise.arrays import Ints
from stagewise.encoding.encode import Chain, rows_of
from stagewise.encoding.stream import Trail
from stagewise.stores import Scaling
from stagewise.training.feed import Source


class Rung(Source):
    """The rows of a chain, for the stage on top of it: they are computed once if they are read from left to right.

    Args:
        chain: whose rows they are.
        hear: is given every piece when it is computed, (1, C, n, …).
    """

    def __init__(self, chain: Chain, hear: Callable[[Tensor], None] | None = None) -> None:
        *shape, channels = chain.row_shape
        self.chain, self.hear = chain, hear
        self.row_shape, self.lengths = (channels, *shape), chain.lengths
        self._item, self._trail = -1, Trail(iter(()))

    def gather(self, items: Ints, starts: Ints, span: int) -> Tensor:
        """Compute `span` rows of each item: (B, C, span, …)."""
        pairs = zip(items.tolist(), starts.tolist(), strict=True)
        return torch.cat([self.read(item, start, start + span, self.chain.device) for item, start in pairs])

    def finish(self, stored: Tensor) -> Tensor:
        """Return the rows as they are."""
        return stored

    def read(self, item: int, start: int, stop: int, device: torch.device) -> Tensor:
        """Return rows of one item: those that it computed last, or it starts over."""
        self._begin(item, start)
        return self._trail.read(start, stop).to(device)

    def finish_item(self, item: int) -> None:
        """Compute the rows of an item that nobody has read: what is on top need not see the last ones."""
        self._begin(item, self._trail.begin)
        for _ in self._trail.pieces:
            pass
        self._item = -1

    def _begin(self, item: int, start: int) -> None:
        if item != self._item or start < self._trail.begin:
            self._item, self._trail = item, Trail(self._heard(item))

    def _heard(self, item: int) -> Iterator[Tensor]:
        for piece in self.chain.pieces(item):
            if self.hear is not None:
                self.hear(piece)
            yield piece


def as_stored(dtype: str, scaling: Scaling | None) -> Callable[[Tensor], Tensor]:
    """Return what a store of a dtype makes of a piece, (1, C, n, …); NaN and infinity stay.

    Args:
        dtype: "float32", "float16" or "int8".
        scaling: of int8.
    """

    def rounded(piece: Tensor) -> Tensor:
        rows = rows_of(piece)
        if not np.isfinite(rows).all():
            return piece
        if scaling is not None:
            rows = scaling.dequantise(scaling.quantise(rows)[0])
        elif dtype == "float16":
            with np.errstate(over="ignore"):  # infinity is refused where it is read
                rows = rows.astype(np.float16).astype(np.float32)
        return torch.from_numpy(rows).to(piece.device).movedim(-1, 0)[None]

    return rounded
