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
        self.source, self.images = source, images
        self.row_shape, self.rows_axis = source.row_shape, source.rows_axis
        self.lengths = np.array([len(images.centre(item)) for item in range(len(images))], np.int64)

    def gather(self, items: Ints, starts: Ints, span: int) -> Tensor:
        """Read `span` patches of each image's crop, as stored."""
        windows = [self.images.centre(i)[s : s + span] for i, s in zip(items.tolist(), starts.tolist(), strict=True)]
        return torch.stack([self.source.pick(i, rows) for i, rows in zip(items.tolist(), windows, strict=True)])

    def finish(self, stored: Tensor) -> Tensor:
        """Do what the other source does."""
        return self.source.finish(stored)
