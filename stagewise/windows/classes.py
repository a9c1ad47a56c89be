"""The classes of training windows, for an objective that needs them: of each item, or of each row.

Legend: B items, T rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stagewise.datasets.base import Dataset
from stagewise.modules.geometry import Geometry
from stagewise.windows.align import Alignment

Ints = npt.NDArray[np.int64]


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

    def of(self, items: Ints, first_B: Ints, rows: int) -> Tensor:
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
