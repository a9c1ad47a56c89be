"""What excites a neuron most: the rows with the highest activation of some channels, found in one pass.

Legend: C channels, T rows of a piece, K places of the best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows_TC = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Excited:
    """A row that excites a channel: which row of which item, and how much."""

    item: int
    row: int
    value: float


@dataclass(frozen=True)
class Neuron:
    """A channel, and the rows that excite it most, highest first, at most one of each item."""

    channel: int
    examples: list[Excited]


def exciting(
    rows: Callable[[int], Iterator[Rows_TC]], items: Iterable[int], channels: int = 4, top: int = 4
) -> list[Neuron]:
    """Find what excites some channels most, in memory for `top` rows of every channel (Löwe et al. 2019, Figure 2).

    The channels are spread evenly over those that vary most: the half with the largest variance over all rows.

    Args:
        rows: yields an item's rows, float32 (T, C), piece by piece.
        items: which to look at; each is read once. Of equal activations the earlier one counts.
        channels: how many channels at most.
        top: how many rows of each at most.

    Returns:
        The channels, that of the largest variance first; none if no item has a row.
    """
    best, spread = _Best(top), _Spread()
    for item in items:
        value_C, row_C, passed = np.full(1, -np.inf, np.float32), np.zeros(1, np.int64), 0
        for piece_TC in rows(item):
            spread.add(piece_TC)
            at_C = piece_TC.argmax(0)
            highest_C = piece_TC[at_C, np.arange(piece_TC.shape[1])]
            row_C = np.where(highest_C > value_C, at_C + passed, row_C)
            value_C = np.maximum(highest_C, value_C)
            passed += len(piece_TC)
        if passed:
            best.add(item, row_C, value_C)
    if not spread.count:
        return []
    order = np.argsort(-spread.squares_C, kind="stable")
    order = order[: max(channels, -(-len(order) // 2))]
    chosen = order[np.linspace(0, len(order) - 1, min(channels, len(order))).astype(int)]
    return [Neuron(channel, best.of(channel)) for channel in chosen.tolist()]


class _Best:
    """The highest activations so far of every channel, highest first."""

    def __init__(self, top: int) -> None:
        self.top = top
        self.value_KC: npt.NDArray[np.float64] = np.empty((0, 0))
        self.item_KC: npt.NDArray[np.int64]
        self.row_KC: npt.NDArray[np.int64]

    def add(self, item: int, row_C: npt.NDArray[np.int64], value_C: npt.NDArray[np.float32]) -> None:
        if not self.value_KC.size:
            self.value_KC = np.full((self.top, len(value_C)), -np.inf)
            self.item_KC, self.row_KC = (np.zeros((self.top, len(value_C)), np.int64) for _ in range(2))
        better_C = value_C > self.value_KC[-1]
        self.value_KC[-1, better_C], self.row_KC[-1, better_C] = value_C[better_C], row_C[better_C]
        self.item_KC[-1, better_C] = item
        order_KC = np.argsort(-self.value_KC, axis=0, kind="stable")
        self.value_KC = np.take_along_axis(self.value_KC, order_KC, 0)
        self.item_KC = np.take_along_axis(self.item_KC, order_KC, 0)
        self.row_KC = np.take_along_axis(self.row_KC, order_KC, 0)

    def of(self, channel: int) -> list[Excited]:
        columns = (array[:, channel].tolist() for array in (self.item_KC, self.row_KC, self.value_KC))
        return [Excited(*found) for found in zip(*columns, strict=True) if found[2] > -np.inf]


class _Spread:
    """Mean and sum of squared differences from it, of every channel over all rows so far (Chan et al. 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean_C, self.squares_C = np.zeros(1), np.zeros(1)

    def add(self, piece_TC: Rows_TC) -> None:
        new, mean_C = len(piece_TC), piece_TC.mean(0, dtype=np.float64)
        apart_C, count = mean_C - self.mean_C, self.count + new
        self.squares_C = self.squares_C + ((piece_TC - mean_C) ** 2).sum(0) + apart_C**2 * (self.count * new / count)
        self.mean_C, self.count = self.mean_C + apart_C * (new / count), count
