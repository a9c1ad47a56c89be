"""Audio files as items: what there is of them, and which are there twice.

Legend: T samples, C channels, N items.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Literal

import numpy as np

from stagewise.arrays import Floats, Ints
from stagewise.datasets.audio import READ_BLOCK, SUFFIXES, Header, Reader, Rules, probe, read_samples, resample, scan
from stagewise.datasets.base import BadItem, Dataset, Keys
from stagewise.datasets.labels import FrameTable, ItemLabels, hash_split, read_split_lists, words_of_unlisted
from stagewise.datasets.names import Names
from stagewise.errors import ConfigError, DataError
from stagewise.text import counted

# A data set of audio files, one item each: scanned when it is opened, read slice by slice.

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


# The same recording in two files, as `a.flac` and `a.wav`: one item, or its twin would be tested after training on it.

STRETCH = 0.5  # seconds from the middle of both that are compared
LAG = 0.1  # seconds that a lossy encoding may shift or lengthen it by
ROUNDED = 1e-4  # what a sample of 16 bits may differ by, of a maximum of 1
ALIKE = 0.2  # correlation of the phases of two encodings at least; of two recordings, it is some hundredths
MOST = 32  # files of one name that each is compared with: where there are more, those of the folders most alike


class Twins(dict[str, str]):
    """Files that are no items, and which one each is the twin of, by their names.

    Attributes:
        alike: files that sound like another of that name in another folder, and may be its twins; they are items.
    """

    def __init__(self, same: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(same)
        self.alike: dict[str, str] = {}


def find_twins(root: Path, names: Sequence[str]) -> Twins:
    """Return which files hold what another one of that name, but for its suffix, holds.

    The taken one is the one whose suffix comes first among those that are read: without loss before with it. In one
    folder, they are told through lossy encodings; of two folders, one may hold the other's recordings with noise, or
    another voice's part of them: there all samples must be the same.

    Args:
        root: the folder.
        names: the files in it.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(PurePosixPath(name).stem, []).append(name)
    twins = Twins()
    for group in groups.values():
        taken: list[str] = []
        near: dict[tuple[str, ...], list[str]] = {}
        heard: dict[str, Header | str] = {}
        folders: dict[str, set[PurePosixPath]] = {}  # of what is taken: those that it or a twin of it lies in
        several = len({_rank(name) for name in group}) > 1
        for name in sorted(group, key=lambda name: (_rank(name), name)) if several else ():
            places = _places(name)
            others = taken if len(taken) <= MOST else chain(*(near.get(place, ()) for place in places))
            lesser = (other for other in others if _rank(other) != _rank(name))
            alike, folder = [], PurePosixPath(name).parent
            for other in islice(lesser, MOST):
                if _same(root, name, other, heard):
                    if folder in folders[other] or _same_samples(root, name, other, heard):
                        twins[name] = other
                        folders[other].add(folder)
                        break
                    alike.append(other)
            if name in twins:
                continue
            if alike:
                twins.alike[name] = alike[0]
            taken.append(name)
            folders[name] = {folder}
            for place in places:
                near.setdefault(place, []).append(name)
    return twins


def _same_samples(root: Path, one: str, other: str, heard: Mapping[str, Header | str]) -> bool:
    paths = [f"{root}/{name}" for name in (one, other)]
    first, second = (heard[path] for path in paths)
    try:
        return not isinstance(first, str) and not isinstance(second, str) and _equal(paths, first, second)
    except DataError:
        return False  # it is damaged, which is said of it


def _places(name: str) -> list[tuple[str, ...]]:
    """Return the folders that a file lies in, and these but for one: `flac/ann` is near to `wav/ann`."""
    folders = PurePosixPath(name).parent.parts
    return [folders, *(folders[:place] + folders[place + 1 :] for place in range(len(folders)))]


def words_of_twins(twins: Mapping[str, str]) -> list[str]:
    """Say which files are no items since they are twins of others."""
    words = []
    if twins:
        name, other = min(twins.items())
        files = counted(len(twins), "file")
        words.append(
            f"left out, since another file of the same name holds the same: {files}, such as {name} beside {other}"
        )
    if isinstance(twins, Twins) and twins.alike:
        name, other = min(twins.alike.items())
        files = counted(len(twins.alike), "file sounds", "files sound")
        words.append(
            f"{files} like another of the same name in another folder, such as {name} and {other}: if they are the "
            "same recordings, take one of the folders away, or tests are made on what was trained on"
        )
    return words


def _rank(name: str) -> int:
    return SUFFIXES.index(PurePosixPath(name).suffix.lower())


def _same(root: Path, one: str, other: str, heard: dict[str, Header | str]) -> bool:
    paths = [f"{root}/{name}" for name in (one, other)]
    first, second = (heard.setdefault(path, probe(path)) for path in paths)
    if isinstance(first, str) or isinstance(second, str):
        return False
    if abs(first.samples / first.rate - second.samples / second.rate) > LAG:
        return False
    rate = min(first.rate, second.rate)
    try:
        a_T, b_T = (_middle(path, header, rate) for path, header in zip(paths, (first, second), strict=True))
        if np.array_equal(a_T, b_T):
            return bool((a_T != a_T[:1]).any()) or _equal(paths, first, second)
    except DataError:
        return False  # it is damaged, which is said of it
    size = len(a_T) + len(b_T)
    across = np.fft.rfft(a_T, size) * np.conj(np.fft.rfft(b_T, size))
    # Of every frequency alike: two recordings may share a hum.
    peaks_T = np.abs(np.fft.irfft(across / (np.abs(across) + 1e-12), size))
    lag = int(LAG * rate)
    return bool(max(peaks_T[: lag + 1].max(), peaks_T[-lag:].max()) > max(ALIKE, 8 / np.sqrt(size)))  # of few, chance


def _equal(paths: Sequence[str], first: Header, second: Header) -> bool:
    """Say whether all samples are the same but for rounding: silence in the middle says nothing of the rest."""
    if (first.samples, first.rate, first.channels) != (second.samples, second.rate, second.channels):
        return False
    with closing(Reader(paths[0])) as one, closing(Reader(paths[1])) as other:
        for start in range(0, first.samples, READ_BLOCK):
            stop = min(start + READ_BLOCK, first.samples)
            if not np.allclose(one.read(start, stop), other.read(start, stop), rtol=0, atol=ROUNDED):
                return False
    return True


def _middle(path: str, header: Header, rate: int) -> Floats:
    """Return a stretch from the middle of a file, its channels averaged, at a lower rate by interpolation."""
    half = min(header.samples // 2, int(STRETCH * header.rate / 2))
    samples_T = read_samples(path, header.samples // 2 - half, header.samples // 2 + half).mean(axis=1)
    places_T = np.arange(0, len(samples_T), header.rate / rate)
    return np.asarray(
        np.interp(places_T, np.arange(len(samples_T)), samples_T) if len(samples_T) else samples_T, np.float32
    )
