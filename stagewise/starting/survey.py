"""What lies in a folder, looked at before anything is written."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from stagewise.datasets import audio, image_files
from stagewise.datasets.bad_items import looked_at, probe_all, telling
from stagewise.datasets.base import BadItem
from stagewise.datasets.files import Found, Kind
from stagewise.datasets.images import words_of_notes
from stagewise.durable import sha256_of
from stagewise.text import bytes_text, counted, seconds_text

# What a folder holds that could be trained on: audio files and images, what their headers say, which are bad.

H = TypeVar("H")  # header of a file

SHOWN = 3  # files of a kind that are named
BEGINNING = 1 << 12  # bytes of a file that are compared before all of it is


@dataclass(frozen=True)
class Contents(Generic[H]):
    """Files of a kind: the usable ones' paths below the root with their headers, the bad ones, and what is left out.

    Attributes:
        root: the folder.
        names: paths of the usable files below it.
        headers: of each.
        bad: files that cannot be used.
        notes: what is left out, and what is to be known of the rest, in words.
        twins: files that are left out, and those that hold the same.
        labels: what `--labels` says.
    """

    root: Path
    names: list[str]
    headers: list[H]
    bad: list[BadItem]
    notes: list[str]
    twins: dict[str, str]
    labels: str | None = None


@dataclass(frozen=True)
class Recordings(Contents[audio.Header]):
    """Audio files of a folder."""

    kind: Literal["audio"] = "audio"

    @property
    def seconds(self) -> list[float]:
        """How long each usable file is."""
        return [header.samples / header.rate for header in self.headers]


@dataclass(frozen=True)
class Pictures(Contents[image_files.Header]):
    """Images of a folder."""

    kind: Literal["images"] = "images"


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
        if inside:
            notes += _twice(found.root, dict(heard))
        return Recordings(
            found.root, [name for name, _ in heard], [header for _, header in heard], bad, notes, found.twins[kind]
        )
    pictures = list(zip(names, probe_all(image_files.probe, paths, tell), strict=True))
    bad += [_bad(found.root, name, header) for name, header in pictures if isinstance(header, str)]
    seen = [(name, header) for name, header in pictures if not isinstance(header, str)]
    if inside:
        found_inside = probe_all(image_files.flaw_inside, [f"{found.root}/{name}" for name, _ in seen])
        flaws = {name: flaw for (name, _), flaw in zip(seen, found_inside, strict=True) if flaw}
        bad += [_bad(found.root, name, flaw) for name, flaw in flaws.items()]
        seen = [(name, header) for name, header in seen if name not in flaws]
    noted: dict[str, list[str]] = {}
    for name, header in seen:
        for note in header.notes:
            noted.setdefault(note, []).append(name)
    notes = [*found.notes, *words_of_notes(noted), *(_twice(found.root, dict(seen)) if inside else [])]
    return Pictures(
        found.root, [name for name, _ in seen], [header for _, header in seen], bad, notes, found.twins[kind]
    )


def _those(root: Path, names: list[str], test: Callable[[str], bool]) -> dict[str, None]:
    """Return the files of which something is true, in order."""
    found = probe_all(test, [f"{root}/{name}" for name in names])
    return {name: None for name, so in zip(names, found, strict=True) if so}


def _twice(root: Path, headers: Mapping[str, audio.Header] | Mapping[str, image_files.Header]) -> list[str]:
    """Say which files are the same, byte for byte, whatever they are called: one may be tested, another trained on."""
    # Only those of one size are read, and only those that begin alike as a whole.
    alike: dict[object, list[str]] = {"": list(headers)}
    looks: Sequence[Callable[[str], object]] = (
        lambda name: headers[name].size,
        lambda name: _begins(root / name),
        lambda name: sha256_of(root / name),
    )
    for look_at in looks:
        parts: dict[object, list[str]] = {}
        for key, names in alike.items():
            for name in names if len(names) > 1 else ():
                parts.setdefault((key, look_at(name)), []).append(name)
        alike = parts
    same = [names for names in alike.values() if len(names) > 1]
    if not same:
        return []
    first, second, *_ = same[0]
    copies = counted(sum(len(names) - 1 for names in same), "file is a copy", "files are copies")
    return [
        f"warning: {copies} of another, byte for byte, such as {second} of {first}: if one is trained on and the other "
        "tested, its test says nothing; leave one out"
    ]


def _begins(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(BEGINNING)).digest()


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


# What is in a folder, as facts for programs and in words.

MOST_FACTS = 4  # kinds of a thing that are named one by one


def facts(content: Recordings | Pictures) -> dict[str, Any]:
    """Return counts, durations or sizes, and the bad files with reasons, JSON-able."""
    found: dict[str, Any] = {
        "kind": content.kind,
        "files": len(content.names) + len(content.bad),
        "usable": len(content.names),
        "bytes": sum(header.size for header in content.headers),
    }
    if isinstance(content, Recordings):
        seconds = content.seconds
        found["seconds"] = sum(seconds)
        found["shortest_seconds"], found["longest_seconds"] = min(seconds, default=0.0), max(seconds, default=0.0)
        found["rates"] = dict(Counter(header.rate for header in content.headers).most_common())
        found["channels"] = dict(Counter(header.channels for header in content.headers).most_common())
    else:
        sizes = Counter((header.height, header.width) for header in content.headers)
        found["sizes"] = [
            {"height": height, "width": width, "images": count} for (height, width), count in sizes.most_common()
        ]
        found["colour"] = sum(header.colour for header in content.headers)
    found["folders"] = dict(sorted(folders(content.names).items()))
    found["bad"] = [{"file": item.path, "reason": item.reason} for item in content.bad]
    return found


def words(found: dict[str, Any]) -> list[str]:
    """Say in a few lines what `facts` found, without the bad files."""
    audio = found["kind"] == "audio"
    head = f"{counted(found['usable'], 'audio file' if audio else 'image')}, {bytes_text(found['bytes'])}"
    if not found["usable"]:
        return [head]
    if audio:
        lines = [
            f"{head}, {seconds_text(found['seconds'])} in all",
            f"from {seconds_text(found['shortest_seconds'])} to {seconds_text(found['longest_seconds'])} each",
            f"samples per second: {_counts({f'{rate:,}': count for rate, count in found['rates'].items()})}",
            f"channels: {_counts({str(number): count for number, count in found['channels'].items()})}",
        ]
    else:
        sizes = {f"{size['height']} × {size['width']}": size["images"] for size in found["sizes"]}
        lines = [
            head,
            f"pixels (height × width): {_counts(sizes)}",
            f"in colour: {_part(found['colour'], found['usable'])}",
        ]
    if len(found["folders"]) > 1:
        counts = found["folders"].values()
        many = f"{min(counts):,} to " if min(counts) < max(counts) else ""
        lines.append(f"in {len(found['folders']):,} folders of {many}{counted(max(counts), 'file')} each")
    return lines


def _part(some: int, every: int) -> str:
    return {0: "none", every: "all"}.get(some, f"{some:,} of {every:,}")


def _counts(counts: dict[str, int]) -> str:
    """Write what there is one of alone, and else how many there are of the most frequent ones."""
    if len(counts) == 1:
        return next(iter(counts))
    named = [f"{name} ({counted(count, 'file')})" for name, count in list(counts.items())[:MOST_FACTS]]
    return ", ".join(named + ([counted(len(counts) - MOST_FACTS, "other")] if len(counts) > MOST_FACTS else []))
