"""Which crops of which images an epoch trains on: a pure function of (seed, stage, epoch), so any can be redone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stagewise.seeds import derive_seed
from stagewise.windows.draw import Batch, batches_of

Ints = npt.NDArray[np.int64]


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
        return self.count // min(size, self.count) if self.count else 0

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
