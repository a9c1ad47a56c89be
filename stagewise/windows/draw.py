"""Which windows an epoch trains on: a pure function of (seed, stage, epoch), so any step can be redone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from stagewise.modules.geometry import Geometry
from stagewise.modules.stage_module import Crop
from stagewise.seeds import derive_seed

Ints = npt.NDArray[np.int64]
MOST_AT_END = 64  # windows of a single recording's end


@dataclass(frozen=True)
class Batch:
    """Windows of one step.

    Attributes:
        items: item of each window.
        begins: first row to read of each.
        skips: rows of the module's output to leave out before each window.
        span: rows to read, the same for all.
        rows: of each window.
        grid: rows and columns of the patches of each crop of an image.
        widths: patches in a row of each image's grid.
        seeds: of each crop, where it is cut out of the pixels at random instead.
    """

    items: Ints
    begins: Ints
    skips: tuple[int, ...]
    span: int
    rows: int
    grid: tuple[int, int] | None = None
    widths: Ints | None = None
    seeds: tuple[int, ...] | None = None

    @property
    def crop(self) -> Crop:
        """What cuts the windows out of the module's output."""
        return Crop(self.skips, self.rows, self.grid)


@dataclass(frozen=True)
class Windows:
    """The windows that fit into some items.

    Attributes:
        items: the items that windows may be drawn from.
        lengths: rows of every item of the data set, where they are read.
        geometry: from those rows to the rows of a window.
        rows: rows of a window.
        per_item: windows of an item in an epoch, or "cover" for as many as lie side by side in it.
        first: place in an item before which no window begins.
        last: place from which on none begins.
    """

    items: Ints
    lengths: Ints
    geometry: Geometry
    rows: int
    per_item: int | Literal["cover"]
    first: int = 0
    last: int | None = None

    @property
    def starts(self) -> Ints:
        """Places where a window may begin in each item; 0 for an item that is too short."""
        fits = {n: self.geometry.window_starts(n, self.rows) for n in set(self.lengths[self.items].tolist())}
        places = np.array([fits[n] for n in self.lengths[self.items].tolist()], np.int64)
        last = places if self.last is None else np.minimum(places, self.last)
        return np.asarray(np.maximum(0, last - self.first), np.int64)

    def split_end(self, fraction: float, per_item: int) -> tuple[Windows, Windows] | None:
        """Keep the end of the only item for other windows, which share no input with those that are left.

        Args:
            fraction: of the item's places that the end has.
            per_item: windows to draw from the end, or as many as lie there side by side, if they are more.

        Returns:
            Windows of the beginning and of the end; None where there are several items, or too few places.
        """
        if len(self.items) != 1:
            return None
        (places,) = self.starts.tolist()
        end = max(1, round(fraction * places))
        beginning = places - end - self.rows - -(-self.geometry.receptive_field // self.geometry.hop)
        if beginning < end:
            return None
        many = max(per_item, min(MOST_AT_END, end // self.rows))
        return replace(self, last=beginning), replace(self, first=places - end, per_item=many)

    @property
    def counts(self) -> Ints:
        """Windows that an epoch takes from each item."""
        starts = self.starts
        if self.per_item == "cover":
            return np.where(starts > 0, (starts + self.rows - 1) // self.rows, 0)
        return np.where(starts > 0, self.per_item, 0)

    @property
    def count(self) -> int:
        """Windows of an epoch."""
        return int(self.counts.sum())

    def steps(self, size: int) -> int:
        """Count the batches of an epoch of training."""
        return self.count // min(size, self.count) if self.count else 0

    def epoch(self, *seed: str | int) -> tuple[Ints, Ints]:
        """Draw an epoch's windows in training order: item and first row of each."""
        rng = np.random.Generator(np.random.Philox(derive_seed(*seed)))
        starts, counts = self.starts, self.counts
        items = np.repeat(self.items, counts)
        first = self.first + rng.integers(0, np.repeat(starts, counts))
        order = rng.permutation(len(items))
        return items[order], first[order]

    def batches(self, size: int, *seed: str | int, every: bool = False) -> Iterator[Batch]:
        """Cut an epoch into batches of one size, or into even ones in which every window is; see `batches_of`."""
        items, first = self.epoch(*seed)
        shift = self.geometry.first // self.geometry.hop
        span = self.geometry.window_span(self.rows)
        for part in batches_of(np.arange(len(items)), size, every):
            rows = first[part]
            begins = np.maximum(0, rows + shift)
            skips = tuple((rows - begins).tolist())
            yield Batch(items[part], begins * self.geometry.hop, skips, span, self.rows)


def batches_of(numbers: Ints, size: int, every: bool = False) -> Iterator[Ints]:
    """Cut numbers into batches.

    Args:
        numbers: to cut.
        size: of a batch, at most.
        every: each number is in a batch, and the batches are even: their sizes differ by one at most. Without it all
            have one size, and a last, smaller one is left out unless it is the only one: another epoch draws others.
    """
    size = max(1, min(size, len(numbers)))
    if every and len(numbers):
        yield from np.array_split(numbers, -(-len(numbers) // size))
        return
    for start in range(0, len(numbers) - size + 1, size):
        yield numbers[start : start + size]
