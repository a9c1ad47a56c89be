"""Label tables: one class per item, or one per frame as in the published `id c0 c1 …` files.

Shape suffixes: N items, F frames.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stagewise.datasets.textfiles import read_lines
from stagewise.errors import DataError
from stagewise.show import counted

HOP = 160  # samples from one published label to the next
SPAN = 400  # samples that one published label covers
MAX_CLASS = 32767


class Digest(Protocol):
    """What of a hashlib object is used here."""

    def update(self, data: bytes, /) -> None:
        """Add bytes to the hash."""


@dataclass(frozen=True)
class FrameLabels:
    """The classes of one item's frames.

    Attributes:
        classes: int64 (F,).
        hop: samples from one frame to the next.
        first: centre of frame 0, in samples.
    """

    classes: npt.NDArray[np.int64]
    hop: int
    first: float


@dataclass(frozen=True)
class ItemLabels:
    """One class per item: int64 (N,), -1 where unknown, and the classes' names."""

    classes: npt.NDArray[np.int64]
    names: Sequence[str]

    @classmethod
    def from_names(cls, values: Sequence[str]) -> ItemLabels:
        """Number the distinct names in sorted order; an empty name is unknown."""
        names = sorted(set(values) - {""})
        number = {name: index for index, name in enumerate(names)} | {"": -1}
        return cls(np.array([number[value] for value in values], dtype=np.int64), names)

    def update(self, digest: Digest) -> None:
        """Add everything that matters to a hash."""
        digest.update("\n".join(self.names).encode())
        digest.update(self.classes.tobytes())


@dataclass(frozen=True)
class FrameTable:
    """One class per frame of every labelled item, in one block of memory.

    Attributes:
        classes: int16, the frames of all items one after another.
        offsets: int64 (N + 1,), where each item's frames begin; an item without labels has none.
        names: the classes' names.
    """

    classes: npt.NDArray[np.int16]
    offsets: npt.NDArray[np.int64]
    names: Sequence[str]

    def of(self, item: int) -> FrameLabels | None:
        """Return one item's labels, None if it has none."""
        classes = self.classes[self.offsets[item] : self.offsets[item + 1]]
        return FrameLabels(classes.astype(np.int64), HOP, SPAN / 2) if len(classes) else None

    def update(self, digest: Digest) -> None:
        """Add everything that matters to a hash."""
        digest.update("\n".join(self.names).encode())
        digest.update(self.offsets.tobytes())
        digest.update(self.classes.tobytes())


def frame_count(samples: int) -> int:
    """Return how many published labels an item of so many samples has: frame t covers 160t to 160t + 399."""
    return 0 if samples < SPAN else 1 + (samples - SPAN) // HOP


def read_alignment(path: Path, keys: Sequence[str], lengths: npt.NDArray[np.int64]) -> FrameTable:
    """Read a published label file: each line is an utterance's key and one class per 160 samples.

    Utterances that are not among `keys` are ignored. The classes go from 0 to the largest one used.

    Args:
        path: the file.
        keys: the items' keys.
        lengths: the items' lengths in samples at 16 kHz, int64 (N,).

    Raises:
        DataError: a line is not `key class class …`, has the wrong number of classes or comes twice, or no
            utterance has labels.
    """
    if not path.is_file():
        raise DataError(f"phone labels {path} are missing: set data.phones, or remove the phones probe.")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # how older numpy says `not a number`
        classes_by_item = _parse(path, {key: item for item, key in enumerate(keys)}, lengths)
    if not classes_by_item:
        raise DataError(
            f"{path}: none of its utterances is in this data set (the first item is '{keys[0]}'): "
            "set data.phones to its labels, or remove the phones probe."
        )
    counts_N = np.zeros(len(keys), dtype=np.int64)
    for item, classes_F in classes_by_item.items():
        counts_N[item] = len(classes_F)
    classes = np.concatenate([classes_by_item[item] for item in sorted(classes_by_item)])
    names = [str(number) for number in range(int(classes.max(initial=-1)) + 1)]
    return FrameTable(classes, np.concatenate([[0], np.cumsum(counts_N)]), names)


def _parse(path: Path, items: Mapping[str, int], lengths: npt.NDArray[np.int64]) -> dict[int, npt.NDArray[np.int16]]:
    classes_by_item: dict[int, npt.NDArray[np.int16]] = {}
    for number, line in read_lines(path):
        key, *rest = line.split(maxsplit=1)
        item = items.get(key)
        if item is None:
            continue
        where = f"{path}:{number}: {key}"
        if item in classes_by_item:
            raise DataError(f"{where} is here a second time: delete one of the two lines.")
        try:
            # Seven times faster than int() for each of LibriSpeech's 36 million labels.
            classes_F = np.fromstring(rest[0].rstrip() if rest else "", dtype=np.int64, sep=" ")
        except (ValueError, DeprecationWarning):
            raise DataError(f"{where}: labels must be whole numbers separated by spaces.") from None
        expected = frame_count(int(lengths[item]))
        if len(classes_F) != expected:
            raise DataError(
                f"{where} has {counted(len(classes_F), 'label')}; its {lengths[item]:,} samples need {expected} "
                f"(1 + (samples - {SPAN}) // {HOP}): set data.phones to the labels of this audio."
            )
        if len(classes_F) and not 0 <= classes_F.min() <= classes_F.max() <= MAX_CLASS:
            raise DataError(f"{where}: labels must lie between 0 and {MAX_CLASS}.")
        classes_by_item[item] = classes_F.astype(np.int16)
    return classes_by_item
