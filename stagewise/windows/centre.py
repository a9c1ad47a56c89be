"""The centred crop of every image, as probes see it: a source of its patches alone.

Legend: B items, T rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stagewise.datasets.images import Images
from stagewise.windows.source import Source

Ints = npt.NDArray[np.int64]


class CentreSource(Source):
    """The patches in the middle of every image, out of another source.

    Löwe et al. 2019, section 4.1: classifiers are tested on centred crops.
    """

    def __init__(self, source: Source, images: Images) -> None:
        self.source, self.images, self.row_shape = source, images, source.row_shape
        self.lengths = np.array([len(images.centre(item)) for item in range(len(images))], np.int64)

    def gather(self, items: Ints, starts: Ints, span: int) -> Tensor:
        """Read `span` patches of each image's crop, as stored."""
        return torch.stack([self._rows(i, s, span) for i, s in zip(items.tolist(), starts.tolist(), strict=True)])

    def _rows(self, item: int, start: int, span: int) -> Tensor:
        rows = self.images.centre(item)[start : start + span]
        begin = int(rows[0])
        # One image, once decoded, is cheaper to read whole than row by row.
        stored = self.source.gather(np.array([item]), np.array([begin]), int(rows[-1]) + 1 - begin)[0]
        return stored.index_select(self.source.rows_axis, torch.from_numpy(rows - begin))

    def finish(self, stored: Tensor) -> Tensor:
        """Do what the other source does."""
        return self.source.finish(stored)
