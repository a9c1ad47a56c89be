"""What a folder holds that could be trained on: audio files and images, what their headers say, which are bad."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stagewise.datasets import audio, image_files
from stagewise.datasets.bad_items import looked_at, probe_all, telling
from stagewise.datasets.base import BadItem
from stagewise.datasets.kinds import Found, Kind


@dataclass(frozen=True)
class Recordings:
    """Audio files: the usable ones' paths below the root with their headers, and the bad ones."""

    root: Path
    names: list[str]
    headers: list[audio.Header]
    bad: list[BadItem]
    kind: Literal["audio"] = "audio"
    labels: str | None = None  # what `--labels` says

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
    labels: str | None = None


def look(found: Found, kind: Kind, report: Callable[..., None] = lambda *_, **__: None) -> Recordings | Pictures:
    """Look at the header and the end of every file of a kind, and tell of progress."""
    names, bad = found.names[kind], list(found.refused[kind])
    with telling(report):
        return _look(found, kind, names, bad)


def _look(found: Found, kind: Kind, names: list[str], bad: list[BadItem]) -> Recordings | Pictures:
    paths, tell = [f"{found.root}/{name}" for name in names], looked_at(kind, len(names))
    if kind == "audio":
        sounds = list(zip(names, probe_all(audio.probe, paths, tell), strict=True))
        bad += [_bad(found.root, name, header) for name, header in sounds if isinstance(header, str)]
        heard = [(name, header) for name, header in sounds if not isinstance(header, str)]
        return Recordings(found.root, [name for name, _ in heard], [header for _, header in heard], bad)
    with image_files.without_warnings():
        pictures = list(zip(names, probe_all(image_files.probe, paths, tell), strict=True))
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
