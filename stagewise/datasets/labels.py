"""Labels of items and of frames, and which items are for training and which for testing.

Legend: N items, F frames.
"""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from stagewise.datasets.names import LEFT_OUT, Names, Strays, read_lines, refuse_ambiguous
from stagewise.errors import ConfigError, DataError
from stagewise.text import counted

# Label tables: one class per item, or one per frame as in the published `id c0 c1 …` files.

HOP = 160  # samples from one published label to the next
SPAN = 400  # samples that one published label covers
MAX_CLASS = 32767
QUOTED = re.compile(r'"([^"]+)"\s+')
BLANKS = re.compile(r"\s+")
LABELS = re.compile(r"(\s+[0-9]+)+$")


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
    """One class per item: int64 (N,), -1 where unknown, the classes' names, and lines of a table that name no item."""

    classes: npt.NDArray[np.int64]
    names: Sequence[str]
    strays: Strays | None = None

    @classmethod
    def from_names(cls, values: Sequence[str], strays: Strays | None = None) -> ItemLabels:
        """Number the distinct names in sorted order; an empty name is unknown."""
        names = sorted(set(values) - {""})
        number = {name: index for index, name in enumerate(names)} | {"": -1}
        return cls(np.array([number[value] for value in values], dtype=np.int64), names, strays)

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
        strays: lines of the file that name no item.
    """

    classes: npt.NDArray[np.int16]
    offsets: npt.NDArray[np.int64]
    names: Sequence[str]
    strays: Strays | None = None

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


def read_alignment(path: Path, names: Names, lengths: npt.NDArray[np.int64]) -> FrameTable:
    """Read a published label file: each line is an utterance's name and one class per 160 samples.

    A name that holds blanks may stand in double quotes. Lines that name no item are counted. The classes go from 0 to
    the largest one used.

    Args:
        path: the file.
        names: of the items.
        lengths: the items' lengths in samples at 16 kHz, int64 (N,).

    Raises:
        DataError: a line is not `name class class …`, has the wrong number of classes or comes twice, or no
            utterance has labels.
    """
    if not path.is_file():
        raise DataError(f"phone labels {path} are missing: set data.phones, or remove the phones probe.")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # how older numpy says `not a number`
        classes_by_item, strays = _parse(path, names, lengths)
    if not classes_by_item:
        raise DataError(
            f"{path}: none of its utterances is in this data set ({strays or 'it is empty'}; the first item is "
            f"'{names.path(0)}'): set data.phones to its labels, or remove the phones probe."
        )
    counts_N = np.zeros(len(names), dtype=np.int64)
    for item, classes_F in classes_by_item.items():
        counts_N[item] = len(classes_F)
    classes = np.concatenate([classes_by_item[item] for item in sorted(classes_by_item)])
    numbers = [str(number) for number in range(int(classes.max(initial=-1)) + 1)]
    return FrameTable(classes, np.concatenate([[0], np.cumsum(counts_N)]), numbers, strays)


def _parse(
    path: Path, names: Names, lengths: npt.NDArray[np.int64]
) -> tuple[dict[int, npt.NDArray[np.int16]], Strays | None]:
    classes_by_item: dict[int, npt.NDArray[np.int16]] = {}
    strays: list[str] = []
    for number, line in read_lines(path):
        item, name, rest = _item(line, names, lengths)
        where = f"{path}:{number}: {name}"
        if item is None:
            strays.append(name)
            continue
        if item == LEFT_OUT:
            continue
        refuse_ambiguous(item, where)
        try:
            # Seven times faster than int() for each of LibriSpeech's 36 million labels.
            classes_F = np.fromstring(rest, dtype=np.int64, sep=" ")
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
        before = classes_by_item.get(item)
        if before is not None and not (names.has_twin(item) and np.array_equal(before, classes_F)):
            raise DataError(f"{where} is here a second time: delete one of the two lines.")
        classes_by_item[item] = classes_F.astype(np.int16)
    return classes_by_item, Strays.of(strays)


def _item(line: str, names: Names, lengths: npt.NDArray[np.int64]) -> tuple[int | None, str, str]:
    """Return the item that a line begins with, its name as it is written, and the labels.

    A name without quotes may hold blanks, and words of it may be numbers: of the beginnings that name an item, it is
    the one after which there are as many labels as the item needs.
    """
    line = line.strip()
    if quoted := QUOTED.match(line):
        return names.find(quoted[1]), quoted[1], line[quoted.end() :]
    blanks = [(each.start(), each.end()) for each in islice(BLANKS.finditer(line), names.blanks + 1)]
    if len(blanks) <= names.blanks:
        blanks.append((len(line), len(line)))
    found = [(names.find(line[:end]), line[:end], line[start:]) for end, start in blanks]
    there = [each for each in found if each[0] is not None]
    if not there:
        return None, found[0][1] if names.blanks == 0 else LABELS.sub("", line), ""

    def fits(item: int | None, rest: str) -> bool:
        return item is not None and item >= 0 and len(rest.split()) == frame_count(int(lengths[item]))

    return there[0] if len(there) == 1 else next((each for each in there if fits(each[0], each[2])), there[0])


def read_split_lists(splits: Mapping[str, str], names: Names) -> dict[str, set[int]]:
    """Read the lists of train and test files, one name a line, as sets of item numbers.

    Args:
        splits: the two files, `{train = "…", test = "…"}`.
        names: of the items.

    Raises:
        ConfigError: `splits` does not name exactly `train` and `test`.
        DataError: a list is missing or empty, a listed name is that of no file, or of several, or is in both lists.
    """
    if not isinstance(splits, Mapping) or set(splits) != {"train", "test"}:
        raise ConfigError('data.splits must name two files of keys: splits = { train = "…", test = "…" }.')
    members: dict[str, set[int]] = {}
    for name in ("train", "test"):
        path = Path(splits[name])
        found: set[int] = set()
        missing: list[str] = []
        first = 0
        for number, key in read_lines(path):
            item = names.find(key)
            refuse_ambiguous(item, f"{path}:{number}: {key}")
            if item is None:
                missing.append(key)
                first = first or number
            else:
                found.add(item)
                if name == "test" and item in members["train"]:
                    raise DataError(f"{path}:{number}: {key} is also in the train list: delete one of the two.")
        if missing:
            raise DataError(
                f"{path}:{first}: {Strays.of(missing)}: set data.root to the folder that holds them, or "
                f"correct data.splits.{name}."
            )
        if not found:
            raise DataError(f"{path} lists no keys: write one key a line, or leave data.splits out.")
        members[name] = found
    return members


def words_of_unlisted(keys: Sequence[str], members: Mapping[str, set[int]]) -> list[str]:
    """Say how many files neither list names, which are no items then."""
    others = sorted(set(range(len(keys))).difference(*members.values()))
    if not others:
        return []
    files = f"{counted(len(others), 'file')}, such as {keys[others[0]]}"
    return [f"left out, as neither list of data.splits names them: {files}"]


TEST_FRACTION = 0.2  # of every class, where nothing else says what is for testing


def words_of_fraction(test_fraction: float, beside: str | None) -> list[str]:
    """Say that a share for testing was set that has no effect beside another key."""
    if beside is None or test_fraction == TEST_FRACTION:
        return []
    return [f"data.test_fraction = {test_fraction} has no effect beside {beside}"]


def hash_split(keys: Sequence[str], groups: Sequence[int], test_fraction: float) -> npt.NDArray[np.bool_]:
    """Choose about `test_fraction` of every group for testing, by the keys' hashes; returns a mask (N,).

    A group of two items or more is in both splits. An item that is alone in its group is for training: nothing that
    could tell it is left if it is tested. Where all are alone, groups say nothing, and all items are one.
    """
    is_test_N = np.zeros(len(keys), dtype=np.bool_)
    members: dict[int, list[int]] = {}
    for item, group in enumerate(groups):
        members.setdefault(group, []).append(item)
    if len(members) == len(keys):
        members = {0: list(range(len(keys)))}
    for items in members.values():
        count = min(round(test_fraction * len(items)), len(items) - 1)
        if test_fraction > 0 and len(items) > 1:
            count = max(count, 1)
        items.sort(key=lambda item: hashlib.sha256(keys[item].encode()).digest())
        is_test_N[items[:count]] = True
    return is_test_N
