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
from stagewise.datasets.image_scan import words_of_notes
from stagewise.datasets.kinds import Found, Kind
from stagewise.show import counted

SHOWN = 3  # files of a kind that are named


@dataclass(frozen=True)
class Recordings:
    """Audio files: the usable ones' paths below the root with their headers, the bad ones, and what is left out."""

    root: Path
    names: list[str]
    headers: list[audio.Header]
    bad: list[BadItem]
    notes: list[str]
    twins: dict[str, str]
    kind: Literal["audio"] = "audio"
    labels: str | None = None  # what `--labels` says

    @property
    def seconds(self) -> list[float]:
        """How long each usable file is."""
        return [header.samples / header.rate for header in self.headers]


@dataclass(frozen=True)
class Pictures:
    """Images: the usable ones' paths below the root with their headers, the bad ones, and what is left out."""

    root: Path
    names: list[str]
    headers: list[image_files.Header]
    bad: list[BadItem]
    notes: list[str]
    kind: Literal["images"] = "images"
    labels: str | None = None


def look(
    found: Found, kind: Kind, report: Callable[..., None] = lambda *_, **__: None, inside: bool = False
) -> Recordings | Pictures:
    """Look at the sizes, the header and the end of every file of a kind, and tell of progress.

    Args:
        found: what lies below a folder.
        kind: of the files.
        report: told of progress.
        inside: whether to look for recordings that are silent, and JPEGs that were cut and closed.
    """
    names, bad = found.names[kind], list(found.refused[kind])
    with telling(report):
        return _look(found, kind, names, bad, inside)


def _look(found: Found, kind: Kind, names: list[str], bad: list[BadItem], inside: bool) -> Recordings | Pictures:
    paths, tell = [f"{found.root}/{name}" for name in names], looked_at(kind, len(names))
    if kind == "audio":
        sounds = list(zip(names, probe_all(audio.probe, paths, tell), strict=True))
        bad += [_bad(found.root, name, header) for name, header in sounds if isinstance(header, str)]
        heard = [(name, header) for name, header in sounds if not isinstance(header, str)]
        notes = list(found.notes)
        if inside and (silent := _those(found.root, [name for name, _ in heard], audio.is_silent)):
            notes.append(f"warning: every sample is the same, in {_examples(silent, 'recording')}")
        return Recordings(
            found.root, [name for name, _ in heard], [header for _, header in heard], bad, notes, found.twins
        )
    pictures = list(zip(names, probe_all(image_files.probe, paths, tell), strict=True))
    bad += [_bad(found.root, name, header) for name, header in pictures if isinstance(header, str)]
    seen = [(name, header) for name, header in pictures if not isinstance(header, str)]
    if inside and (cut := _those(found.root, [name for name, _ in seen], image_files.lacks_a_part)):
        bad += [_bad(found.root, name, image_files.CUT) for name in cut]
        seen = [(name, header) for name, header in seen if name not in cut]
    noted: dict[str, list[str]] = {}
    for name, header in seen:
        for note in header.notes:
            noted.setdefault(note, []).append(name)
    notes = [*found.notes, *words_of_notes(noted)]
    return Pictures(found.root, [name for name, _ in seen], [header for _, header in seen], bad, notes)


def _those(root: Path, names: list[str], test: Callable[[str], bool]) -> dict[str, None]:
    """Return the files of which something is true, in order."""
    found = probe_all(test, [f"{root}/{name}" for name in names])
    return {name: None for name, so in zip(names, found, strict=True) if so}


def _examples(names: dict[str, None], what: str) -> str:
    return f"{counted(len(names), what)}: {', '.join(list(names)[:SHOWN])}{', …' if len(names) > SHOWN else ''}"


def folders(names: list[str], level: int = 1) -> Counter[str]:
    """Count the files below each folder of a level; files that lie higher up are left out."""
    return Counter(name.split("/")[level - 1] for name in names if name.count("/") >= level)


def tells_apart(classes: Counter[str]) -> bool:
    """Say whether a probe could learn classes: there are two of which each can be trained on and tested."""
    return sum(count > 1 for count in classes.values()) > 1


def deeper(here: Counter[str], below: Counter[str], root: Path) -> list[str]:
    """Say that classes are likely to lie one folder further down, if this level tells nothing apart and that does."""
    if len(here) != 1 or not tells_apart(below):
        return []
    place = root / next(iter(here))
    return [f"all lie in {place}, which holds {counted(len(below), 'folder')}: name that one, if they are the classes"]


def _bad(root: Path, name: str, reason: str) -> BadItem:
    return BadItem(name, f"{root}/{name}", reason)
