"""Files that people give an encoder: audio and images, read as the encoder was trained, or refused by name.

Legend: N items.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from stagewise.arrays import Floats
from stagewise.datasets.audio import READ_BLOCK, SUFFIXES, Header, Reader, Rules, probe
from stagewise.datasets.audio_files import AudioFiles
from stagewise.datasets.bad_items import AGAIN, probe_all, refuse, remembering
from stagewise.datasets.base import BadItem
from stagewise.datasets.files import find_files, name_problem
from stagewise.datasets.image_files import MAX_PIXELS, TOO_MANY, Pixels, Preprocessing, read_pixels, resized
from stagewise.datasets.image_files import SUFFIXES as IMAGE_SUFFIXES
from stagewise.datasets.image_files import Header as ImageHeader
from stagewise.datasets.image_files import probe as probe_image
from stagewise.datasets.images import UNLABELLED, Images, words_of_notes
from stagewise.datasets.labels import ItemLabels
from stagewise.datasets.names import Names
from stagewise.errors import ConfigError, DataError
from stagewise.text import counted

# Files and folders that somebody names, and the key of each: where it is, as it was named.

ADVICE = "Repair them or leave them out."
SHOWN = 20  # of the files that are left out
Report = Callable[..., None]
H = TypeVar("H")


@dataclass(frozen=True)
class Given:
    """The files that were named, or that lie in the folders that were.

    Attributes:
        keys: their paths, as they were named, with slashes.
        bad: those that cannot be used.
        kind: what they are, "audio" or "image".
        notes: what in the folders was left out, in words.
    """

    keys: list[str]
    bad: list[BadItem]
    kind: str
    notes: list[str]

    @classmethod
    def of(cls, paths: Sequence[str | Path], suffixes: Sequence[str], kind: str) -> Given:
        """Look for the files.

        Args:
            paths: files, whatever they are called, and folders, in which files of some kinds count.
            suffixes: of those, in small letters; all files count when there are none.
            kind: what they are, "audio" or "image".

        Raises:
            ConfigError: nothing was named.
        """
        if not paths:
            raise ConfigError(f"name {kind} files, or folders of them, to embed.")
        keys: dict[str, None] = {}
        bad: list[BadItem] = []
        notes: list[str] = []
        again = 0
        for path in (os.fspath(each) for each in paths):
            files = [path]
            if os.path.isdir(path):  # noqa: PTH112
                try:
                    found = find_files(Path(path), suffixes, kind, "the folder", bad)
                except DataError as error:
                    unread = error.__context__
                    if isinstance(unread, OSError):
                        bad.append(BadItem(path, unread.filename, unread.strerror or str(unread)))
                    else:
                        listed = f" ({', '.join(suffixes)})" if suffixes else ""
                        bad.append(BadItem(path, path, f"it holds no {kind} files{listed}"))
                    continue
                files = [f"{path.rstrip('/')}/{name}" for name in found.names]
                bad += found.refused
                notes += [f"{path}: {note}" for note in found.notes()]
            for file in files:
                problem = name_problem(file)
                if problem is None:
                    again += file in keys
                    keys[file] = None
                else:
                    shown = ascii(file)[1:-1]
                    bad.append(BadItem(shown, shown, problem))
        if again:
            notes.append(f"{counted(again, 'file is', 'files are')} named twice, and taken once")
        return cls(list(keys), bad, kind, notes)

    def probed(
        self, probe: Callable[[str], H | str], problem: Callable[[H], str | None], report: Report, skip: bool
    ) -> tuple[dict[str, H], list[BadItem]]:
        """Look at every file.

        Args:
            probe: returns what a file says of itself, or what is wrong with it.
            problem: says why a sound one cannot be used.
            report: told how many were looked at, and what is left out.
            skip: leave out what cannot be used.

        Returns:
            what the usable ones say of themselves, and those that are left out.

        Raises:
            DataError: files cannot be used, or none can; names them.
        """

        def tell(done: int) -> None:
            report("look", what=f"{self.kind} files", files=done, of=len(self.keys))

        for note in self.notes:
            report("note", text=note)
        bad, good = list(self.bad), dict[str, H]()
        for key, header in zip(self.keys, probe_all(probe, self.keys, tell), strict=True):
            reason = header if isinstance(header, str) else problem(header)
            if reason is not None:
                bad.append(BadItem(key, key, reason))
            elif not isinstance(header, str):
                good[key] = header
        if not (skip and good):
            refuse(bad, len(self.keys) + len(self.bad), "input", ADVICE)
        for item in bad[:SHOWN]:
            report("note", text=f"left out {item.path}: {item.reason}")
        if len(bad) > SHOWN:
            report("note", text=f"left out {len(bad) - SHOWN:,} more")
        return good, bad


def to_the_end(probe: Callable[[str], H | str], read: Callable[[str, Any], object]) -> Callable[[str], H | str]:
    """Return a probe that also reads a file whole, and finds what is wrong in its middle.

    Args:
        probe: looks at a file.
        read: reads it; raises DataError where it cannot.
    """

    def look(path: str) -> H | str:
        header = probe(path)
        if isinstance(header, str):
            return header
        try:
            read(path, header)
        except DataError as error:
            words = str(error).removeprefix(f"cannot read {path}:").removeprefix(path)
            return words.removesuffix(AGAIN).strip(" .")
        return header

    return look


# Audio files that somebody names, as the items of a data set: converted to what a run was trained on.


class GivenAudio(AudioFiles):
    """Audio files of any length, rate and number of channels.

    The file that was read last stays open: to decode an OGG from its beginning for every piece would take hours.

    Args:
        paths: files, and folders of them.
        facts: `input` of the run's lock: sample rate and standardisation.
        short: says why so many samples at that rate are too few.
        report: told how many files were looked at, what is left out, and what is converted.
        skip: read every file to its end, and leave out those that cannot be used.

    Raises:
        ConfigError: there are no paths.
        DataError: files cannot be used.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        facts: Mapping[str, Any],
        short: Callable[[int], str | None],
        report: Report,
        skip: bool,
    ) -> None:
        given, rate = Given.of(paths, SUFFIXES, "audio"), facts["sample_rate"]
        rules = Rules(rate, "error", resample=True, mono=True, mean=facts["mean"], std=facts["std"])

        def problem(header: Header) -> str | None:
            return rules.problem(header) or short(-(-header.samples * rate // header.rate))

        with remembering():
            headers, bad = given.probed(to_the_end(probe, _read) if skip else probe, problem, report, skip)
            super().__init__(Path(), list(headers), Names(list(headers)), lambda *_: {}, rules, None, 0.0)
        self.bad = bad
        self._open: dict[str, Reader] = {}
        for text in _conversions(headers.values(), rate):
            report("note", text=text)

    def _path(self, key: str) -> str:
        return key

    def _samples(self, path: str, start: int, stop: int) -> Floats:
        reader = self._open.pop(path, None) or Reader(path)  # no other thread has it now, and what fails is not kept
        samples_TC = reader.read(start, stop)
        self._open.clear()
        self._open[path] = reader
        return samples_TC


def _read(path: str, header: Header) -> None:
    with closing(Reader(path)) as reader:
        for start in range(0, header.samples, READ_BLOCK):
            reader.read(start, min(start + READ_BLOCK, header.samples))


def _conversions(headers: Collection[Header], rate: int) -> list[str]:
    rates = Counter(header.rate for header in headers if header.rate != rate)
    texts = [
        f"{counted(count, 'file is', 'files are')} converted from {other:,} to {rate:,} Hz."
        for other, count in sorted(rates.items())
    ]
    if several := sum(header.channels > 1 for header in headers):
        texts.append(f"the channels of {counted(several, 'file')} with several are averaged.")
    return texts


# Image files that somebody names, as the items of a data set: cut as a run's own images were.


class GivenPixels(Images):
    """Images of any size that holds a patch, cut as a run's own were; the one that was loaded last is kept.

    Args:
        sizes: height and width of every image, by key.
        bad: what was left out.
        facts: `input` of the run's lock: channels, patches, standardisation.
    """

    def __init__(self, sizes: Mapping[str, tuple[int, int]], bad: list[BadItem], facts: Mapping[str, Any]) -> None:
        channels, side, _ = facts["row_shape"]
        crop = facts["reads"].get("crop") if facts["patch"] else side
        how = Preprocessing(
            facts["patch"], facts["stride"], crop or side, channels == 1, facts["mean"], facts["std"], flip=False
        )
        sizes_N2 = np.array(list(sizes.values()), np.int64).reshape(-1, 2)
        unlabelled_N = np.full(len(sizes), UNLABELLED, np.int8)
        classes = ItemLabels(np.full(len(sizes), -1), [])
        super().__init__(list(sizes), sizes_N2, unlabelled_N, classes, how, b"")
        self.bad = bad
        self._last: tuple[int, Pixels] | None = None

    @abstractmethod
    def _load(self, image: int) -> Pixels:
        """Return an image, uint8 (H, W, C); raises DataError where it cannot be read."""

    def _pixels(self, image: int) -> Pixels:
        """Return what was loaded last, or load it: the pieces of a large image follow each other."""
        last, self._last = self._last, None
        if last is None or last[0] != image:
            del last
            last = image, self._load(image)
        self._last = last
        return last[1]


class GivenImages(GivenPixels):
    """Image files of any size that holds a patch.

    Args:
        paths: files, and folders of them.
        facts: `input` of the run's lock, and how its files are read: channels, patches, standardisation and size.
        report: told how many files were looked at, what is left out, and what is much larger than what was trained on.
        skip: decode every file, and leave out those that cannot be used.

    Raises:
        ConfigError: there are no paths.
        DataError: files cannot be used.
    """

    def __init__(self, paths: Sequence[str | Path], facts: Mapping[str, Any], report: Report, skip: bool) -> None:
        short = facts["reads"]["short_side"]
        given = Given.of(paths, IMAGE_SUFFIXES, "image")

        def problem(header: ImageHeader) -> str | None:
            height, width = resized(header.height, header.width, short)
            return TOO_MANY if height * width > MAX_PIXELS else no_patch(height, width, facts)

        found, bad = given.probed(to_the_end(probe_image, _decode) if skip else probe_image, problem, report, skip)
        noted = dict[str, list[str]]()
        for key, each in found.items():
            greyed = ("in colour, taken in grey",) if each.colour and facts["row_shape"][0] == 1 else ()
            for note in (*each.notes, *greyed):
                noted.setdefault(note, []).append(key)
        for text in [*words_of_notes(noted), _too_large(list(found.values()), facts["reads"])]:
            if text:
                report("note", text=text)
        super().__init__({key: resized(each.height, each.width, short) for key, each in found.items()}, bad, facts)
        self._short = short

    def _load(self, image: int) -> Pixels:
        height, width = self._sizes_N2[image].tolist()
        return read_pixels(self.keys[image], self._how.grayscale, self._short, (height, width))


def no_patch(height: int, width: int, facts: Mapping[str, Any]) -> str | None:
    """Say that an image of so many pixels holds no patch; None if it does."""
    (_, side, _), patch = facts["row_shape"], facts["patch"]
    how = Preprocessing(patch, facts["stride"], side)
    return (
        f"its {height} × {width} pixels hold no patch of {side} × {side}: enlarge it"
        if 0 in how.grid(height, width)
        else None
    )


def trained_at(reads: Mapping[str, Any]) -> str:
    """Say of what size the images were that stages were trained on; "" where that is not known, or they were none."""
    if not (crop := reads.get("crop")):
        return ""
    short = reads["short_side"]
    return f"crops of {crop} × {crop} pixels" + (f" of images resized to a short side of {short}" if short else "")


def _too_large(headers: Sequence[ImageHeader], reads: Mapping[str, Any]) -> str:
    if reads["short_side"] or not (crop := reads.get("crop")):
        return ""
    large = sum(min(header.height, header.width) > 2 * crop for header in headers)
    if not large:
        return ""
    return (
        f"warning: {large:,} of {counted(len(headers), 'image')} {'is' if large == 1 else 'are'} more than twice as "
        f"large as the crops trained on ({crop} pixels): resize them first, until things in them are as large as there."
    )


def _decode(path: str, header: ImageHeader) -> None:
    read_pixels(path, False, None, (header.height, header.width))
