"""Rows of windows read while the step before is computed.

Legend: B items of a batch, C channels, T rows (of patches: …, H, W after the rows), R × S patches of a crop.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stagewise.arrays import Ints
from stagewise.datasets.base import Dataset, read_rows
from stagewise.datasets.images import Images
from stagewise.stores import StoreReader
from stagewise.training.windows import Batch

# Where a stage's input rows come from: the raw data set, or the store of a frozen stage.


class Source(ABC):
    """Rows of every item, read in two steps: as they are stored, and as a module takes them.

    The first step needs no torch device and runs in a background thread; the second runs where the module is,
    so that what travels there is as small as what is stored.

    Attributes:
        row_shape: of one row, (C,) or (C, H, W).
        lengths: rows of every item, int64.
        rows_axis: of one item as stored, along which its rows lie.
    """

    row_shape: tuple[int, ...]
    lengths: Ints
    rows_axis: int = 0

    @property
    def channels(self) -> int:
        """C."""
        return self.row_shape[0]

    @abstractmethod
    def gather(self, items: Ints, starts: Ints, span: int) -> Tensor:
        """Read `span` rows of each item from its start, as stored."""

    def gather_crops(self, batch: Batch) -> Tensor:
        """Read the patches of crops, as stored."""
        rows_BN = _runs(batch).reshape(len(batch.items), -1)
        return torch.stack([self.pick(item, rows_N) for item, rows_N in zip(batch.items, rows_BN, strict=True)])

    def pick(self, item: int, rows_N: Ints) -> Tensor:
        """Read some rows of one item, in rising order, as stored: one image, once decoded, is read at one go."""
        begin = int(rows_N[0])
        stored = self.gather(np.array([item]), np.array([begin]), int(rows_N[-1]) + 1 - begin)[0]
        return stored.index_select(self.rows_axis, torch.from_numpy(rows_N - begin))

    @abstractmethod
    def finish(self, stored: Tensor) -> Tensor:
        """Turn what was gathered, on any device, into float32 (B, C, span) or (B, C, span, H, W)."""

    def batch(self, batch: Batch) -> Tensor:
        """Read what a step takes, as stored."""
        return self.gather(batch.items, batch.begins, batch.span) if batch.grid is None else self.gather_crops(batch)

    def read(self, item: int, start: int, stop: int, device: torch.device) -> Tensor:
        """Read rows of one item: float32 (1, C, stop - start, …) on `device`."""
        stored = self.gather(np.array([item]), np.array([start]), stop - start)
        return self.finish(stored.to(device))


class RawSource(Source):
    """The samples of a data set, or the patches of its images."""

    rows_axis = 1

    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.row_shape, self.lengths = dataset, dataset.row_shape, dataset.lengths

    def gather(self, items: Ints, starts: Ints, span: int) -> Tensor:
        """Read standardised samples: float32 (B, C, span, …)."""
        x_BCT = self._empty(len(items), span)
        for x_CT, item, start in zip(x_BCT, items.tolist(), starts.tolist(), strict=True):
            x_CT[:] = read_rows(self.dataset, item, start, start + span)
        return torch.from_numpy(x_BCT)

    def gather_crops(self, batch: Batch) -> Tensor:
        """Cut crops out of the pixels at random where they have seeds, else out of the image's own patches."""
        if batch.seeds is None:
            return super().gather_crops(batch)
        assert isinstance(self.dataset, Images)
        x_BCTHW = self._empty(len(batch.items), batch.rows)
        for x_CTHW, item, seed in zip(x_BCTHW, batch.items.tolist(), batch.seeds, strict=True):
            x_CTHW[:] = self.dataset.augmented(item, seed)
        return torch.from_numpy(x_BCTHW)

    def finish(self, stored: Tensor) -> Tensor:
        """Return the samples as they are."""
        return stored

    def _empty(self, items: int, rows: int) -> npt.NDArray[np.float32]:
        """Make room; the channels of a patch lie side by side, as in a store: convolutions need no copies then."""
        channels, *shape = self.row_shape
        if not shape:
            return np.empty((items, channels, rows), np.float32)
        return np.moveaxis(np.empty((items, rows, *shape, channels), np.float32), -1, 1)


class StoreSource(Source):
    """The rows of a store; int8 is turned into numbers after it has reached the device."""

    def __init__(self, store: StoreReader) -> None:
        self.store, self.lengths = store, store.lengths
        *shape, channels = store.row_shape
        self.row_shape = (channels, *shape)
        scaling = store.scaling
        self.scaling = None if scaling is None else (torch.tensor(scaling.scale_C), torch.tensor(scaling.offset_C))

    def gather(self, items: Ints, starts: Ints, span: int) -> Tensor:
        """Read rows in the store's dtype: (B, span, …, C)."""
        row = self.store.row_shape
        if self.store.compressed:  # one channel lies after another in its chunks, and need not be turned around
            z_BTC = np.moveaxis(np.empty((len(items), *row, span), self.store.dtype), -1, 1)
        else:
            z_BTC = np.empty((len(items), span, *row), self.store.dtype)
        self.store.gather(items, starts, z_BTC)
        return torch.from_numpy(z_BTC)

    def gather_crops(self, batch: Batch) -> Tensor:
        """Read one row of a crop's patches after another: (B, R·S, H, W, C)."""
        assert batch.grid is not None
        first_BR = _runs(batch)[:, :, 0]
        stored = self.gather(np.repeat(batch.items, batch.grid[0]), first_BR.ravel(), batch.grid[1])
        crops: Tensor = stored.unflatten(0, first_BR.shape).flatten(1, 2)
        return crops

    def finish(self, stored: Tensor) -> Tensor:
        """De-quantise, and put channels first."""
        z_BTC = stored.float()
        if self.scaling is not None:
            scale_C, offset_C = (t.to(stored.device) for t in self.scaling)
            z_BTC = z_BTC.mul_(scale_C).add_(offset_C)
        return z_BTC.movedim(-1, 1)


def _runs(batch: Batch) -> Ints:
    """Return the row numbers of the patches of crops, (B, R, S)."""
    assert batch.grid is not None
    assert batch.widths is not None
    R, S = batch.grid
    return batch.begins[:, None, None] + np.arange(R)[:, None] * batch.widths[:, None, None] + np.arange(S)


# Reads the batches of the next steps in the background, and tells how long training had to wait for them.

AHEAD = 3  # batches in flight: memory for a few batches, and enough to hide a slow file


class Feed:
    """Batches in order, whatever the number of threads.

    Threads and not processes: decoding, copying and checksums release the interpreter's lock, nothing has to
    be sent between processes, and a killed run leaves no orphan behind.

    Attributes:
        waited: seconds that training has waited for data so far.
    """

    def __init__(self, source: Source, threads: int = 2) -> None:
        self.source, self.threads, self.waited = source, threads, 0.0

    def __call__(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        """Yield every batch with its rows as stored."""
        todo, reading = iter(batches), deque[tuple[Batch, "Future[Tensor]"]]()
        with ThreadPoolExecutor(self.threads, "stagewise-read") as pool:
            try:
                while True:
                    while len(reading) < AHEAD and (batch := next(todo, None)) is not None:
                        future = pool.submit(self.source.batch, batch)
                        reading.append((batch, future))
                    if not reading:
                        return
                    batch, future = reading.popleft()
                    begun = time.perf_counter()
                    stored = future.result()
                    self.waited += time.perf_counter() - begun
                    yield batch, stored
            finally:
                for _, future in reading:
                    future.cancel()


# The centred crop of every image, as probes see it: a source of its patches alone.


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
