"""Where a stage's input rows come from: the raw data set, or the store of a frozen stage.

Legend: B items of a batch, C channels, T rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stagewise.datasets.base import Dataset
from stagewise.stores import StoreReader

Ints = npt.NDArray[np.int64]


class Source(ABC):
    """Rows of every item, read in two steps: as they are stored, and as a module takes them.

    The first step needs no torch device and runs in a background thread; the second runs where the module is,
    so that what travels there is as small as what is stored.

    Attributes:
        channels: C.
        lengths: rows of every item, int64.
    """

    channels: int
    lengths: Ints

    @abstractmethod
    def gather(self, items: Ints, starts: Ints, span: int) -> Tensor:
        """Read `span` rows of each item from its start, as stored."""

    @abstractmethod
    def finish(self, stored: Tensor) -> Tensor:
        """Turn what `gather` returned, on any device, into float32 (B, C, span)."""

    def read(self, item: int, start: int, stop: int, device: torch.device) -> Tensor:
        """Read rows of one item: float32 (1, C, stop - start) on `device`."""
        stored = self.gather(np.array([item]), np.array([start]), stop - start)
        return self.finish(stored.to(device))


class RawSource(Source):
    """The samples of a data set."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.channels, self.lengths = dataset, dataset.channels, dataset.lengths

    def gather(self, items: Ints, starts: Ints, span: int) -> Tensor:
        """Read standardised samples: float32 (B, C, span)."""
        x_BCT = np.empty((len(items), self.channels, span), np.float32)
        for x_CT, item, start in zip(x_BCT, items.tolist(), starts.tolist(), strict=True):
            x_CT[:] = self.dataset.read(item, start, start + span)
        return torch.from_numpy(x_BCT)

    def finish(self, stored: Tensor) -> Tensor:
        """Return the samples as they are."""
        return stored


class StoreSource(Source):
    """The rows of a store; int8 is turned into numbers after it has reached the device."""

    def __init__(self, store: StoreReader) -> None:
        self.store, self.lengths = store, store.lengths
        (self.channels,) = store.row_shape
        scaling = store.scaling
        self.scaling = None if scaling is None else (torch.tensor(scaling.scale_C), torch.tensor(scaling.offset_C))

    def gather(self, items: Ints, starts: Ints, span: int) -> Tensor:
        """Read rows in the store's dtype: (B, span, C)."""
        if self.store.compressed:  # one channel lies after another in its chunks, and need not be turned around
            z_BTC = np.empty((len(items), self.channels, span), self.store.dtype).transpose(0, 2, 1)
        else:
            z_BTC = np.empty((len(items), span, self.channels), self.store.dtype)
        self.store.gather(items, starts, z_BTC)
        return torch.from_numpy(z_BTC)

    def finish(self, stored: Tensor) -> Tensor:
        """De-quantise, and put channels first."""
        z_BTC = stored.float()
        if self.scaling is not None:
            scale_C, offset_C = (t.to(stored.device) for t in self.scaling)
            z_BTC = z_BTC.mul_(scale_C).add_(offset_C)
        return z_BTC.transpose(1, 2)
