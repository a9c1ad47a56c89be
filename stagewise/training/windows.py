"""Which windows and crops an epoch trains on: a pure function of (seed, stage, epoch), so any step can be redone.

Legend: B items, T rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stagewise.arrays import Ints
from stagewise.datasets.base import Dataset
from stagewise.datasets.labels import FrameLabels
from stagewise.modules.geometry import Geometry
from stagewise.modules.stage_module import Window
from stagewise.seeds import derive_seed

# Which row of a representation belongs to which label frame.

BEST_CENTRED = -1  # with the paper's encoder, row i lies 19.5 samples beside the centre of label i - 1


@dataclass(frozen=True)
class Alignment:
    """Rows of a stage against frames of labels.

    Attributes:
        geometry: from samples to rows.
        offset: row i is read against label i + offset, where rows and labels have the same hop; -1 is best
            centred, -2 is what the authors' probe does, 0 what CPC_audio and s3prl do. With another hop, each
            label gets the row whose centre is nearest to where that row's would be.
    """

    geometry: Geometry
    offset: int = BEST_CENTRED

    def rows(self, labels: FrameLabels) -> npt.NDArray[np.int64]:
        """Return the row of every frame; negative or beyond the item's rows where there is none."""
        frames = np.arange(len(labels.classes))
        samples = labels.first + (frames + BEST_CENTRED - self.offset) * labels.hop
        # Half-way cases go up, so that neighbouring frames never swap.
        return np.floor((samples - self.geometry.centre) / self.geometry.hop + 0.5).astype(np.int64)


# The classes of training windows, for an objective that needs them: of each item, or of each row.


class Classes:
    """A label of a data set, as an objective takes it: int64, -1 where it is unknown.

    Args:
        dataset: whose label it is.
        label: its name.
        geometry: from samples to the rows of the windows.

    Raises:
        DataError: there is no such label.
    """

    def __init__(self, dataset: Dataset, label: str, geometry: Geometry) -> None:
        self.dataset, self.label = dataset, label
        self.per_item = dataset.label_kind(label) == "item"
        self.alignment = Alignment(geometry)

    def known(self, items: Ints) -> Ints:
        """Return those of some items that have the label at all."""
        if self.per_item:
            return items[self.dataset.item_labels(self.label)[items] >= 0]
        return np.array([i for i in items.tolist() if self.dataset.frame_labels(self.label, i) is not None], np.int64)

    def read(self, items: Ints, first_B: Ints, rows: int) -> Tensor:
        """Return the classes of B windows: (B,) of the items, or (B, T) of their rows, from the first of each."""
        if self.per_item:
            return torch.from_numpy(self.dataset.item_labels(self.label)[items])
        y_BT = np.full((len(items), rows), -1, np.int64)
        for y_T, item, first in zip(y_BT, items.tolist(), first_B.tolist(), strict=True):
            labels = self.dataset.frame_labels(self.label, item)
            if labels is not None:
                place = self.alignment.rows(labels) - first
                inside = (place >= 0) & (place < rows) & (labels.classes >= 0)
                y_T[place[inside]] = labels.classes[inside]
        return torch.from_numpy(y_BT)


# Which windows an epoch trains on: a pure function of (seed, stage, epoch), so any step can be redone.

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
    def window(self) -> Window:
        """What cuts the windows out of the module's output."""
        return Window(self.skips, self.rows, self.grid)


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
        count = self.count
        return count // min(size, count) if count else 0

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


# Which crops of which images an epoch trains on: a pure function of (seed, stage, epoch), so any can be redone.


@dataclass(frozen=True)
class Crops:
    """The crops that fit into some images.

    From pixels, a crop lies anywhere and may be mirrored; from a store, its patches are those of the whole image.

    Attributes:
        items: the images that crops may be drawn from.
        grids: rows and columns of the patches of every image of the data set, (N, 2).
        grid: of a crop.
        per_item: crops of an image in an epoch.
        pixels: cut crops out of the pixels.
    """

    items: Ints
    grids: Ints
    grid: tuple[int, int]
    per_item: int
    pixels: bool

    @property
    def rows(self) -> int:
        """Patches of a crop."""
        return self.grid[0] * self.grid[1]

    @property
    def starts(self) -> Ints:
        """Places for a crop in each image; 0 for one that is too small."""
        free_N2 = np.maximum(0, self.grids[self.items] - self.grid + 1)
        starts: Ints = free_N2.prod(1)
        return starts

    @property
    def count(self) -> int:
        """Crops of an epoch."""
        return int((self.starts > 0).sum()) * self.per_item

    def steps(self, size: int) -> int:
        """Count the batches of an epoch of training."""
        count = self.count
        return count // min(size, count) if count else 0

    def batches(self, size: int, *seed: str | int, every: bool = False) -> Iterator[Batch]:
        """Cut an epoch into batches of one size, or into even ones in which every crop is; see `batches_of`."""
        rng = np.random.Generator(np.random.Philox(derive_seed(*seed)))
        items = np.repeat(self.items[self.starts > 0], self.per_item)
        tops, lefts = rng.integers(0, self.grids[items].T - np.array(self.grid)[:, None] + 1)
        order = rng.permutation(len(items))
        widths = self.grids[items, 1]
        for part in batches_of(order, size, every):
            # Numbered, so that two crops of one image in one epoch differ.
            seeds = tuple(derive_seed(*seed, number) for number in part.tolist()) if self.pixels else None
            yield Batch(
                items[part],
                (tops * widths + lefts)[part],
                (0,) * len(part),
                (self.grid[0] - 1) * int(widths[part].max(initial=0)) + self.grid[1],
                self.rows,
                self.grid,
                widths[part],
                seeds,
            )
