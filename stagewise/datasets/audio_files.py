"""A data set of audio files, one item each: scanned when it is opened, read slice by slice.

Shape suffixes: T samples, C channels, N items.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from stagewise.datasets.audio import read_samples
from stagewise.datasets.base import BadItem, Dataset, Floats, Ints
from stagewise.datasets.keys import Keys
from stagewise.datasets.labels import FrameTable, ItemLabels
from stagewise.datasets.names import Names
from stagewise.datasets.resample import resample
from stagewise.datasets.scan import Rules, scan
from stagewise.datasets.splits import hash_split, read_split_lists, words_of_unlisted
from stagewise.errors import ConfigError

# Mean and deviation of LibriSpeech's samples, with which the published results were made.
MEAN = -0.000678107
STD = 0.0630056


Labels = dict[str, ItemLabels | FrameTable]


class AudioFiles(Dataset):
    """Audio files below one folder; a sub-class says which files there are and what their labels are.

    Args:
        root: the folder.
        keys: the keys of the files in it, sorted.
        names: of these files, for lists and label files.
        label: makes the label tables of the items: called with their names and lengths.
        rules: what is expected of every file.
        splits: files that list the train and test keys; then only these are items.
        test_fraction: fraction for testing without lists, taken from every class of the first label.
        refused: files whose names cannot be keys.

    Raises:
        ConfigError: an argument is out of range.
        DataError: files are bad, or a split list or a label file does not fit.
    """

    def __init__(
        self,
        root: Path,
        keys: Sequence[str],
        names: Names,
        label: Callable[[Names, Ints], Labels],
        rules: Rules,
        splits: Mapping[str, str] | None,
        test_fraction: float,
        refused: Sequence[BadItem] = (),
    ) -> None:
        if not 0 <= test_fraction < 1:
            raise ConfigError(f"data.test_fraction is {test_fraction}: set it to 0 or more and less than 1.")
        self.root = root
        self.sample_rate, self.mean, self.std = rules.sample_rate, rules.mean, rules.std
        self._rules = rules
        listed = None if splits is None else read_split_lists(splits, names)
        used, self.notes = list(range(len(keys))), []
        if listed is not None:
            self.notes = words_of_unlisted(keys, listed)
            used = sorted(listed["train"] | listed["test"])
            listed_test_N = np.array([item in listed["test"] for item in used])
            keys, refused = [keys[item] for item in used], ()
        found = scan(keys, [self._path(key) for key in keys], rules, refused)
        self.keys = Keys([keys[item] for item in found.items])
        self.lengths = found.lengths(rules.sample_rate)
        self.bad = found.bad
        self._scan = found
        self.labels = label(names.only(np.array(used, np.int64)[found.items]), self.lengths)
        self._is_test_N = (
            listed_test_N[found.items]
            if listed is not None
            else hash_split(self.keys, _groups(self.labels, len(self.keys)), test_fraction)
        )

    @abstractmethod
    def _path(self, key: str) -> str:
        """Return the file of a key."""

    def _samples(self, path: str, start: int, stop: int) -> Floats:
        """Read samples of all channels of a file, float32 (T, C)."""
        return read_samples(path, start, stop)

    def read(self, item: int, start: int, stop: int) -> Floats:
        """Read samples start to stop of an item: float32 (1, stop - start), standardised.

        FLAC and WAV are sought, other formats are decoded from their beginning in bounded memory.

        Raises:
            DataError: the file cannot be read, or holds NaN or infinite samples.
        """
        if not 0 <= start <= stop <= self.lengths[item]:
            raise IndexError(f"item {item} has {self.lengths[item]} samples, not {start} to {stop}")
        if start == stop:
            return np.empty((1, 0), dtype=np.float32)
        path = self._path(self.keys[item])

        def read_mono(first: int, last: int) -> Floats:
            samples_TC = self._samples(path, first, last)
            return samples_TC[:, 0] if samples_TC.shape[1] == 1 else samples_TC.mean(axis=1)

        rate, samples = int(self._scan.rates[item]), int(self._scan.samples[item])
        if rate == self.sample_rate:
            samples_T = read_mono(start, stop)
        else:
            samples_T = resample(read_mono, samples, rate, self.sample_rate, start, stop)
        return ((samples_T - np.float32(self._rules.mean)) / np.float32(self._rules.std))[None]

    def split(self, name: Literal["train", "test"]) -> Ints:
        """Return the items of a split in item order, int64."""
        return np.flatnonzero(self._is_test_N == (name == "test")).astype(np.int64)

    def fingerprint(self) -> str:
        """Hash keys, lengths, file sizes and rates, how samples are standardised, and the split."""
        rules = self._rules
        digest = hashlib.sha256(json.dumps([rules.sample_rate, rules.mean, rules.std]).encode())
        digest.update("\n".join(self.keys).encode())
        for column in (self.lengths, self._scan.sizes, self._scan.rates, self._is_test_N):
            digest.update(column.tobytes())
        return digest.hexdigest()


def _groups(labels: Labels, items: int) -> list[int]:
    """Return the class of every item in the first label that is one per item."""
    for table in labels.values():
        if isinstance(table, ItemLabels):
            return [int(number) for number in table.classes]
    return [0] * items
