"""What a probe reads: one vector per item, or the labelled rows of every item, in bounded memory.

Legend: N examples, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache

import numpy as np

from stagewise.arrays import Floats, Ints
from stagewise.datasets.base import Dataset
from stagewise.encoding.encode import Chain
from stagewise.errors import NumberError
from stagewise.runs.items import ItemMeans
from stagewise.training.windows import Alignment

SEGMENT = 16  # neighbouring rows that are read together; segments, not rows, are shuffled


class Features(ABC):
    """Examples of some items, in segments that are read together.

    Attributes:
        channels: C.
        items: item of every segment.
        counts: examples of every segment.
    """

    channels: int
    items: Ints
    counts: Ints

    @abstractmethod
    def read(self, segment: int) -> tuple[Floats, Ints]:
        """Return a segment's vectors (N, C) and classes (N,)."""

    @abstractmethod
    def rows(self, segment: int) -> Ints:
        """Return which rows of its item a segment's examples are, (N,)."""


class PooledFeatures(Features):
    """The mean of an item's rows, one example an item; items without rows or label are left out."""

    def __init__(self, items: Ints, means: ItemMeans, classes: Ints) -> None:
        self.items, self.counts = items, np.ones(len(items), np.int64)
        self.classes_N = classes[items]
        self.means_NC = means.read(items) if len(items) else np.empty((0, 1), "f4")
        self.channels = self.means_NC.shape[1]

    def read(self, segment: int) -> tuple[Floats, Ints]:
        """Return the one example of an item."""
        return self.means_NC[segment : segment + 1], self.classes_N[segment : segment + 1]

    def rows(self, segment: int) -> Ints:
        """Return 0 for the one example of an item."""
        return np.zeros(self.counts[segment], np.int64)


class RowFeatures(Features):
    """The row that belongs to each label frame, of every item that has labels.

    Args:
        chain: to the rows.
        dataset: whose labels are read.
        labels: their name.
        alignment: of their frames with rows.
        rows_NC: all of them, in the order of the items; None reads them where they are.
    """

    def __init__(
        self, chain: Chain, dataset: Dataset, labels: str, alignment: Alignment, rows_NC: Floats | None
    ) -> None:
        self.chain, self.channels, lengths = chain, chain.channels, chain.lengths.tolist()
        found = [labelled(dataset, labels, alignment, item, lengths[item]) for item in range(len(dataset))]
        self._rows_of = lru_cache(1024)(lambda item: labelled(dataset, labels, alignment, item, lengths[item])[0])
        counts = np.array([len(rows) for rows, _ in found], np.int64)
        self.classes_N = np.concatenate([classes.astype(np.int16) for _, classes in found])
        segments = -(-counts // SEGMENT)
        self.items = np.repeat(np.arange(len(dataset)), segments)
        # The place of each segment within its item, in frames.
        number = np.arange(len(self.items)) - np.repeat(np.cumsum(segments) - segments, segments)
        self.first = number * SEGMENT
        self.counts = np.minimum(SEGMENT, counts[self.items] - self.first)
        self.begin = np.cumsum(self.counts) - self.counts
        self.rows_NC = rows_NC

    def read(self, segment: int) -> tuple[Floats, Ints]:
        """Return neighbouring labelled rows."""
        begin, count = int(self.begin[segment]), int(self.counts[segment])
        classes_N = self.classes_N[begin : begin + count].astype(np.int64)
        if self.rows_NC is not None:
            return self.rows_NC[begin : begin + count], classes_N
        item, first = int(self.items[segment]), int(self.first[segment])
        rows = self._rows_of(item)[first : first + count]
        x = self.chain.source.read(item, int(rows[0]), int(rows[-1]) + 1, self.chain.device)
        return x[0].T.cpu().numpy()[rows - rows[0]], classes_N

    def rows(self, segment: int) -> Ints:
        """Return the rows of a segment's label frames."""
        first = int(self.first[segment])
        return self._rows_of(int(self.items[segment]))[first : first + int(self.counts[segment])]


def labelled(dataset: Dataset, labels: str, alignment: Alignment, item: int, length: int) -> tuple[Ints, Ints]:
    """Return the rows of an item's labelled frames, and their classes.

    Args:
        dataset: whose labels are read.
        labels: their name.
        alignment: of their frames with rows.
        item: of the data set.
        length: rows of it.
    """
    frames = dataset.frame_labels(labels, item)
    if frames is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    rows = alignment.rows(frames)
    there = (rows >= 0) & (rows < length) & (frames.classes >= 0)
    return rows[there], frames.classes[there]


def check_numbers(x: Floats, dataset: Dataset, item: int) -> None:
    """Refuse what a probe would silently take for its first class."""
    if not np.isfinite(x).all():
        raise NumberError(
            f"the representation of {dataset.keys[item]} holds NaN or infinity; the probe is not fitted. Check this "
            "item, or train the stage again with a lower learning rate, then type the same command again."
        )
