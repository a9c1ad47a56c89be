"""What a data set is: items of one kind, with keys, labels and splits.

Legend: C channels, T rows, N items.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, overload

import numpy as np
import numpy.typing as npt

from stagewise.arrays import Floats, Ints
from stagewise.datasets.labels import FrameLabels, FrameTable, ItemLabels
from stagewise.errors import ConfigError, DataError

# Does a data set of one's own keep what `Dataset` promises?


def check_promises(dataset: Dataset, where: str) -> None:
    """Refuse a data set whose attributes or methods are not what the base class says.

    Args:
        dataset: of a class of one's own.
        where: what the message begins with.

    Raises:
        ConfigError: one of them is not.
    """

    def refuse(what: str) -> ConfigError:
        return ConfigError(f"{where}: {type(dataset).__qualname__}: {what} (see stagewise.datasets.Dataset).")

    keys = list(dataset.keys)
    if not all(isinstance(key, str) and "\n" not in key and "\r" not in key for key in keys):
        raise refuse("`keys` must be texts without line breaks")
    if len(set(keys)) < len(keys):
        raise refuse("`keys` must be unique")
    lengths = dataset.lengths
    if not _whole(lengths) or lengths.shape != (len(keys),):
        raise refuse(f"`lengths` must be an array of int64, one for each of its {len(keys):,} keys")
    for name, items in (("split('train')", dataset.split("train")), ("split('test')", dataset.split("test"))):
        if not _whole(items) or items.ndim != 1 or not ((items >= 0) & (items < len(keys))).all():
            raise refuse(f"`{name}` must give an array of int64, numbers of items from 0 to {len(keys) - 1:,}")
    for name, table in dataset.labels.items():
        if not isinstance(table, ItemLabels | FrameTable):
            raise refuse(f"`labels['{name}']` must be an ItemLabels or a FrameTable")
        count = len(table.classes) if isinstance(table, ItemLabels) else len(table.offsets) - 1
        if count != len(keys):
            raise refuse(f"`labels['{name}']` is of {count:,} items, and there are {len(keys):,} keys")
    if not isinstance(found := dataset.fingerprint(), str) or not found:
        raise refuse("`fingerprint()` must give a text that changes with whatever changes training")


def read_rows(dataset: Dataset, item: int, start: int, stop: int) -> Floats:
    """Read rows of an item as its data set gives them: numpy would spread what is too small, and None would be NaN.

    Raises:
        DataError: they cannot be read, or are no array of the promised shape.
    """
    rows, shape = dataset.read(item, start, stop), (dataset.row_shape[0], stop - start, *dataset.row_shape[1:])
    if np.shape(rows) != shape:
        raise DataError(
            f"{type(dataset).__qualname__}.read gives an array of shape {np.shape(rows)} for rows {start} to {stop} of "
            f"item {dataset.keys[item]}: it must be float32 of shape {shape}."
        )
    return rows


def _whole(numbers: object) -> bool:
    return isinstance(numbers, np.ndarray) and np.issubdtype(numbers.dtype, np.integer)


# The items' keys as one block of bytes: a list of a million strings would be copied into every worker.


class Keys(Sequence[str]):
    """A read-only list of strings, kept as UTF-8 bytes and the place where each one ends."""

    def __init__(self, keys: Sequence[str]) -> None:
        encoded = [key.encode() for key in keys]
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([len(key) for key in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[item] for item in range(*index.indices(len(self)))]
        item = range(len(self))[index]
        start = self._ends[item - 1] if item else 0
        return self._bytes[start : self._ends[item]].decode()


# What a data set is: ordered items, each with a key, an array of rows (samples or patches) and labels.


@dataclass(frozen=True)
class BadItem:
    """A file that was left out because it cannot be used as it is."""

    key: str
    path: str
    reason: str


@dataclass(frozen=True)
class Expected:
    """The known size of a data set that is not there yet.

    Attributes:
        items: N.
        samples: rows of all items together.
        source: where the numbers come from.
        row_shape: shape of one row.
        crop: rows and columns of the patches of a training crop.
        classes: number of classes of every label.
    """

    items: int
    samples: int
    source: str
    row_shape: tuple[int, ...] = (1,)
    crop: tuple[int, int] | None = None
    classes: Mapping[str, int] = field(default_factory=dict)
    reading_seconds: ClassVar = 0.0  # of an item: not known

    def __len__(self) -> int:
        """Return the number of items."""
        return self.items

    @property
    def lengths(self) -> Ints:
        """Rows of every item, as if all were of one length."""
        return np.full(self.items, self.samples // max(1, self.items), np.int64)


class Dataset(ABC):
    """Ordered items, the only raw input of a pipeline.

    A data set holds no open file, lock or thread, so that it can be used from several threads and handed to
    worker processes, forked or spawned.

    Attributes:
        channels: channels of every item.
        mean, std: of the standardisation: what `read` gives is (samples - mean) / std; a list has one a channel.
        sample_rate: samples per second of every item; 0 for images.
        keys: name of every item, unique, without line breaks.
        lengths: rows of every item, int64 (N,).
        bad: what was left out, if the pipeline allows that.
        notes: what else was left out, or taken otherwise than it may look, in words.
        labels: label tables by name.
        grids: rows and columns of the patches of every image, int64 (N, 2); None for other items.
        crop: rows and columns of the patches of a training crop; None for other items.
        reading_seconds: that reading one training window takes, about, where that is of weight.
        views: items that every example is there as, one after another; `split` and `pool` name the first.
        label_sources: where labels come from, in words, for whoever names one that is not there.
    """

    channels: int = 1
    mean: float | list[float] = 0.0
    std: float | list[float] = 1.0
    sample_rate: int
    keys: Sequence[str]
    lengths: Ints
    bad: list[BadItem]
    notes: Sequence[str] = ()
    labels: Mapping[str, ItemLabels | FrameTable]
    grids: Ints | None = None
    crop: tuple[int, int] | None = None
    reading_seconds: float = 0.0
    views: int = 1
    label_sources: str = "this data set brings its own"

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row: (C,), or (C, P, P) for patches of P × P pixels."""
        return (self.channels,)

    @abstractmethod
    def read(self, item: int, start: int, stop: int) -> Floats:
        """Read rows start to stop of an item: float32 (C, stop - start, …), standardised.

        Any slice equals, bit for bit, the same slice of the whole item.

        Raises:
            DataError: the file cannot be read, or holds NaN or infinite samples.
        """

    @abstractmethod
    def split(self, name: Literal["train", "test"]) -> Ints:
        """Return the items of a split in item order, int64."""

    def pool(self) -> Ints:
        """Return the items that stages train on without labels, in item order, int64."""
        return self.split("train")

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash everything that changes training (sha256, hex); labels and absolute paths do not."""

    @classmethod
    def read_file(cls, path: str, *args: Any, **arguments: Any) -> npt.NDArray[Any]:
        """Read a file that need not be an item: a class of one's own that has this can be embedded with.

        It gives what `read` would of the whole item, float32 (C, T), standardised; a set of images gives the pixels,
        uint8 (H, W) or (H, W, C), which are then cut and standardised as its own. Beside the path it is given what it
        names: arguments of `[data]` (else the constructor's defaults), and `mean`, `std` and `sample_rate` of the run.
        A sub-class that reads items in another way has one of its own.

        Raises:
            Exception: whatever says why the file cannot be used; its text is shown with the file's name.
        """
        raise NotImplementedError  # not abstract: most classes have none, and `has_own` sees that before it is called

    @classmethod
    def read_array(cls, given: Any, *args: Any, **arguments: Any) -> npt.NDArray[Any]:
        """Treat what a program gives to `encoder.embed` as `read_file` does a file.

        Args:
            given: an array, a tensor, or an image of Pillow, as it was given.
            *args: none.
            **arguments: as of `read_file`; `sample_rate` is what was said with it, else that of the run.
        """
        raise NotImplementedError  # not abstract: most classes have none, and `has_own` sees that before it is called

    @classmethod
    def expected(cls, **arguments: Any) -> Expected | None:
        """Say how large the data set of these arguments is, without looking at it; None if unknown."""
        return None

    @classmethod
    def is_there(cls, **arguments: Any) -> bool:
        """Say whether the data set of these arguments can be read without being downloaded or made first."""
        return True

    def __len__(self) -> int:
        return len(self.keys)

    def label_kind(self, name: str) -> Literal["item", "frames"]:
        """Say whether a label is one class per item or one per frame.

        Raises:
            DataError: there is no such label.
        """
        return "item" if isinstance(self._table(name), ItemLabels) else "frames"

    def label_classes(self, name: str) -> list[str]:
        """Return the names of a label's classes, in class order.

        Raises:
            DataError: there is no such label.
        """
        return list(self._table(name).names)

    def item_labels(self, name: str) -> Ints:
        """Return the class of every item, int64 (N,), -1 where it is unknown.

        Raises:
            DataError: there is no such label, or it is one per frame.
        """
        table = self._table(name)
        if not isinstance(table, ItemLabels):
            raise DataError(f"label '{name}' is one class per frame: a probe on it cannot have `pool`.")
        return table.classes

    def frame_labels(self, name: str, item: int) -> FrameLabels | None:
        """Return the classes of an item's frames, None where they are unknown.

        Raises:
            DataError: there is no such label, or it is one per item.
        """
        table = self._table(name)
        if not isinstance(table, FrameTable):
            raise DataError(f"label '{name}' is one class per item: a probe on it needs `pool = \"mean\"`.")
        return table.of(item)

    def label_fingerprint(self, name: str) -> str:
        """Hash a label's classes and their names (sha256, hex).

        Raises:
            DataError: there is no such label.
        """
        digest = hashlib.sha256(self.label_kind(name).encode())
        self._table(name).update(digest)
        return digest.hexdigest()

    def _table(self, name: str) -> ItemLabels | FrameTable:
        if name not in self.labels:
            known = ", ".join(f"'{label}'" for label in self.labels) or "none"
            raise DataError(
                f"this data set has no label '{name}'; it has: {known}. Set `labels` to one of them. "
                f"Where labels come from: {self.label_sources}."
            )
        return self.labels[name]
