"""What a folder holds that could be trained on: audio files and images, what their headers say, which are bad."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stagewise.datasets import audio, image_files
from stagewise.datasets.audio_folder import SUFFIXES as AUDIO
from stagewise.datasets.bad_items import probe_all
from stagewise.datasets.base import BadItem
from stagewise.datasets.found_files import find_files
from stagewise.datasets.image_files import SUFFIXES as IMAGES
from stagewise.errors import DataError

Kind = Literal["audio", "images"]
SUFFIXES: dict[Kind, tuple[str, ...]] = {"audio": AUDIO, "images": IMAGES}


@dataclass(frozen=True)
class Found:
    """The files of every kind below a folder: their paths in it, and those whose names cannot be used."""

    root: Path
    names: dict[Kind, list[str]]
    refused: dict[Kind, list[BadItem]]

    def count(self, kind: Kind) -> int:
        """Count the files of a kind, with those that cannot be used."""
        return len(self.names[kind]) + len(self.refused[kind])

    @property
    def kinds(self) -> list[Kind]:
        """The kinds that there are, the more frequent one first."""
        return sorted((kind for kind in SUFFIXES if self.count(kind)), key=self.count, reverse=True)


@dataclass(frozen=True)
class Recordings:
    """Audio files: the usable ones' paths below the root with their headers, and the bad ones."""

    root: Path
    names: list[str]
    headers: list[audio.Header]
    bad: list[BadItem]
    kind: Literal["audio"] = "audio"

    @property
    def seconds(self) -> list[float]:
        """How long each usable file is."""
        return [header.samples / header.rate for header in self.headers]


@dataclass(frozen=True)
class Pictures:
    """Images: the usable ones' paths below the root with their headers, and the bad ones."""

    root: Path
    names: list[str]
    headers: list[image_files.Header]
    bad: list[BadItem]
    kind: Literal["images"] = "images"


def find(root: Path) -> Found:
    """Find all audio files and images below a folder; names that begin with a dot are left out.

    Raises:
        DataError: the folder cannot be read, or holds neither.
    """
    if not root.is_dir():
        what = "is a file, no folder" if root.exists() else "is not there"
        raise DataError(f"{root} {what}: name the folder that holds the audio files or the images.")
    try:
        names, refused = find_files(root, AUDIO + IMAGES, "audio or image", "FOLDER")
    except DataError as error:
        if isinstance(error.__context__, OSError):  # what the system refused is said already
            raise
        raise DataError(
            f"no audio files ({', '.join(AUDIO)}) and no images ({', '.join(IMAGES)}) below {root}: "
            "name the folder that holds them."
        ) from None
    return Found(
        root,
        {kind: [name for name in names if name.lower().endswith(suffixes)] for kind, suffixes in SUFFIXES.items()},
        {kind: [bad for bad in refused if bad.key.lower().endswith(suffixes)] for kind, suffixes in SUFFIXES.items()},
    )


def look(found: Found, kind: Kind) -> Recordings | Pictures:
    """Look at the header and the end of every file of a kind."""
    names, bad = found.names[kind], list(found.refused[kind])
    paths = [f"{found.root}/{name}" for name in names]
    if kind == "audio":
        sounds = list(zip(names, probe_all(audio.probe, paths), strict=True))
        bad += [_bad(found.root, name, header) for name, header in sounds if isinstance(header, str)]
        heard = [(name, header) for name, header in sounds if not isinstance(header, str)]
        return Recordings(found.root, [name for name, _ in heard], [header for _, header in heard], bad)
    with image_files.without_warnings():
        pictures = list(zip(names, probe_all(image_files.probe, paths), strict=True))
    bad += [_bad(found.root, name, header) for name, header in pictures if isinstance(header, str)]
    seen = [(name, header) for name, header in pictures if not isinstance(header, str)]
    return Pictures(found.root, [name for name, _ in seen], [header for _, header in seen], bad)


def folders(names: list[str], level: int = 1) -> Counter[str]:
    """Count the files below each folder of a level; files that lie higher up are left out."""
    return Counter(name.split("/")[level - 1] for name in names if name.count("/") >= level)


def tells_apart(classes: Counter[str]) -> bool:
    """Say whether a probe could learn classes: there are two of which each can be trained on and tested."""
    return sum(count > 1 for count in classes.values()) > 1


def _bad(root: Path, name: str, reason: str) -> BadItem:
    return BadItem(name, f"{root}/{name}", reason)
