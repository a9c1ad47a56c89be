"""What a probe reads: one vector per item, or the labelled rows of every item, in bounded memory.

Legend: N examples, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np

from stagewise import durable
from stagewise.arrays import Floats, Ints
from stagewise.datasets.base import Dataset
from stagewise.encoding.encode import Chain
from stagewise.errors import NumberError
from stagewise.runs.items import ItemMeans
from stagewise.stopping import Stop
from stagewise.training.windows import Alignment

MEMORY_BYTES = 256 * 2**20  # labelled rows up to this are kept in memory
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
        self.means_NC = np.stack([means[item] for item in items.tolist()]) if len(items) else np.empty((0, 1), "f4")
        self.channels = self.means_NC.shape[1]

    def read(self, segment: int) -> tuple[Floats, Ints]:
        """Return the one example of an item."""
        return self.means_NC[segment : segment + 1], self.classes_N[segment : segment + 1]

    def rows(self, segment: int) -> Ints:
        """Return 0 for the one example of an item."""
        return np.zeros(self.counts[segment], np.int64)


class RowFeatures(Features):
    """The row that belongs to each label frame, of every item that has labels.

    The labelled rows are gathered once, in one pass over the items: into memory if they are few, else into a
    scratch file; rows that lie in a store are then read where they are.
    """

    def __init__(
        self,
        chain: Chain,
        dataset: Dataset,
        labels: str,
        alignment: Alignment,
        scratch: Path,
        stop: Stop,
        report: Callable[..., None],
    ) -> None:
        self.chain, self.channels, self.lengths = chain, chain.channels, chain.lengths
        self.dataset, self.labels, self.alignment = dataset, labels, alignment
        self._rows_of = lru_cache(1024)(self._labelled_rows)
        rows, classes = zip(*(self._frames(item) for item in range(len(dataset))), strict=True)
        counts = np.array([len(r) for r in rows], np.int64)
        self.classes_N = np.concatenate(classes).astype(np.int16)
        segments = -(-counts // SEGMENT)
        self.items = np.repeat(np.arange(len(dataset)), segments)
        # The place of each segment within its item, in frames.
        number = np.arange(len(self.items)) - np.repeat(np.cumsum(segments) - segments, segments)
        self.first = number * SEGMENT
        self.counts = np.minimum(SEGMENT, counts[self.items] - self.first)
        self.begin = np.cumsum(self.counts) - self.counts
        self.rows_NC = self._gather(scratch, counts, stop, report)

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

    def _frames(self, item: int) -> tuple[Ints, Ints]:
        """Return the rows and classes of an item's labelled frames."""
        labels = self.dataset.frame_labels(self.labels, item)
        if labels is None:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        rows = self.alignment.rows(labels)
        there = (rows >= 0) & (rows < self.lengths[item]) & (labels.classes >= 0)
        return rows[there], labels.classes[there]

    def _labelled_rows(self, item: int) -> Ints:
        return self._frames(item)[0]

    def _gather(self, scratch: Path, counts: Ints, stop: Stop, report: Callable[..., None]) -> Floats | None:
        shape = (int(counts.sum()), self.channels)
        in_memory = shape[0] * shape[1] * 4 <= MEMORY_BYTES
        if not in_memory and not self.chain.stages:
            return None
        rows_NC = np.empty(shape, np.float32) if in_memory else None
        with durable.disk_errors(scratch), scratch.open("wb") as file:
            begin = 0
            for item in np.flatnonzero(counts).tolist():
                wanted, passed = self._labelled_rows(item), 0
                for rows in self.chain.rows(item):
                    inside = rows[wanted[(wanted >= passed) & (wanted < passed + len(rows))] - passed]
                    check_numbers(inside, self.dataset, item)
                    if rows_NC is None:
                        file.write(inside.tobytes())
                    else:
                        rows_NC[begin : begin + len(inside)] = inside
                    begin, passed = begin + len(inside), passed + len(rows)
                    stop.check("the stages are complete; this probe starts again.")
                report("probe", items=item + 1, of=len(counts))
        if rows_NC is None:
            rows_NC = np.memmap(scratch, np.float32, "r", shape=shape)
        # A mapping keeps the bytes until the probe is done, and no kill can leave them behind.
        scratch.unlink()
        return rows_NC


def check_numbers(x: Floats, dataset: Dataset, item: int) -> None:
    """Refuse what a probe would silently take for its first class."""
    if not np.isfinite(x).all():
        raise NumberError(
            f"the representation of {dataset.keys[item]} holds NaN or infinity; the probe is not fitted. Check this "
            "item, or train the stage again with a lower learning rate, then type the same command again."
        )
