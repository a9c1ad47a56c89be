"""Files of a folder: found, and told what kind they are."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stagewise.datasets import audio_files, images
from stagewise.datasets.audio import SUFFIXES as AUDIO
from stagewise.datasets.audio_files import words_of_twins
from stagewise.datasets.base import BadItem
from stagewise.datasets.image_files import SUFFIXES as IMAGES
from stagewise.errors import ConfigError, DataError
from stagewise.text import counted, printable

# The files of some kinds below a folder, however nested: their names, and what is left out.

SHOWN = 6  # suffixes that are named one by one
# Folders in which other programs keep thumbnails, copies and what was deleted.
FOREIGN = {
    *("@eaDir", "@Recycle", "@Recently-Snapshot", "#recycle", "#snapshot", "__MACOSX", "lost+found"),
    *("$RECYCLE.BIN", "System Volume Information"),
}
SYSTEM = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}
TABLES = (".csv", ".tsv")
TEXTS = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".md")  # what people write beside files, which is looked for apart


@dataclass(frozen=True)
class Files:
    """What lies below a folder.

    Attributes:
        names: the paths of files of some kinds, with slashes and sorted.
        refused: those that cannot be keys.
        others: how many files have other suffixes, in small letters.
        hidden: how many files of these kinds have names that begin with a dot.
        unread: folders that other programs keep for themselves, and how often they are there.
        again: folders that a link leads to, and that are taken where they lie.
        dotted: folders whose names begin with a dot, which were not looked into.
        tables: tables in folders below: those beside the files, at the top, are looked for.
    """

    names: list[str]
    refused: list[BadItem]
    others: Mapping[str, int]
    hidden: int
    unread: Mapping[str, int]
    again: Sequence[str] = ()
    dotted: Sequence[str] = ()
    tables: Sequence[str] = ()

    def notes(self, beside: Sequence[str] = ()) -> list[str]:
        """Say what was left out.

        Args:
            beside: suffixes of files that are taken in another way.
        """
        said = []
        others = Counter({suffix: count for suffix, count in self.others.items() if suffix not in beside})
        if others:
            named = [
                f"{count:,} {suffix or 'without one'}"
                for suffix, count in sorted(others.items(), key=lambda item: (-item[1], item[0]))[:SHOWN]
            ]
            more = [f"and {counted(len(others) - SHOWN, 'other')}"] if len(others) > SHOWN else []
            said.append(f"left out by their suffix: {', '.join(named + more)}")
        if self.hidden:
            said.append(f"left out: {counted(self.hidden, 'file')} whose names begin with a dot")
        for what, which in (
            ("left out: folders whose names begin with a dot", self.dotted),
            ("not read: tables in folders below", self.tables),
        ):
            if which:
                rest = ", …" if len(which) > SHOWN else ""
                said.append(f"{what}: {', '.join(which[:SHOWN])}{rest}")
        if self.again:
            rest = ", …" if len(self.again) > SHOWN else ""
            said.append(f"links to folders that are taken once: {', '.join(self.again[:SHOWN])}{rest}")
        if self.unread:
            named = [f"{count:,} {name}" for name, count in self.unread.items()]
            said.append(f"folders of other programs, which were not looked into: {', '.join(named)}")
        return said


def find_files(root: Path, suffixes: Sequence[str], kind: str, key: str, unread: list[BadItem] | None = None) -> Files:
    """Find all files of some kinds below a folder.

    Names that begin with a dot are left out, as are folders of thumbnails and the like; links are followed.

    Args:
        root: the folder.
        suffixes: of the files, in small letters; all files when there are none.
        kind: what the files are, "audio" or "image".
        key: of the pipeline file, which names the folder.
        unread: takes the folders below it that cannot be read, instead of an error.

    Raises:
        DataError: the folder cannot be read, or holds no such files.
    """

    def refuse(error: OSError) -> None:
        if unread is not None and Path(error.filename) != root:
            unread.append(BadItem(error.filename, error.filename, error.strerror or str(error)))
            return
        lost = error.errno == errno.ENOENT and not Path(error.filename).is_absolute()
        here = f"; paths start where you type, in {Path.cwd()}" if lost else ""
        raise DataError(f"cannot read {error.filename} ({error.strerror}{here}): correct {key} or its permissions.")

    names: list[str] = []
    refused: list[BadItem] = []
    others: Counter[str] = Counter()
    foreign: Counter[str] = Counter()
    hidden = 0
    visited: set[tuple[int, int]] = set()
    again: list[str] = []
    dotted: list[str] = []
    tables: list[str] = []
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()  # a link that leads back up would never end
            again.append(printable(os.path.relpath(folder, root)))
            continue
        visited.add((status.st_dev, status.st_ino))
        foreign.update(sorted(FOREIGN.intersection(folders)))
        dotted += [printable(os.path.relpath(Path(folder, name), root)) for name in folders if name.startswith(".")]
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in FOREIGN)
        within = Path(os.path.relpath(folder, root)).as_posix()  # once a folder: it asks the system where we are
        for file in files:
            suffix = os.path.splitext(file)[1].lower()  # noqa: PTH122
            if suffix in TABLES and within != "." and not file.startswith("."):
                tables.append(printable(f"{within}/{file}"))
            if file.lower() in SYSTEM or (suffixes and suffix not in suffixes):
                if not file.startswith(".") and suffix not in TEXTS and file.lower() not in SYSTEM:
                    others[printable(suffix)] += 1
                continue
            if file.startswith("."):
                hidden += 1
                continue
            name = file if within == "." else f"{within}/{file}"
            problem = name_problem(name)
            if problem is None:
                names.append(name)
            else:
                shown = ascii(name)[1:-1]
                refused.append(BadItem(shown, f"{root}/{shown}", problem))
    found = Files(sorted(names), refused, others, hidden, foreign, sorted(again), sorted(dotted), sorted(tables))
    if not names and not refused:
        there, listed = "".join(f"; {note}" for note in found.notes()), f" ({', '.join(suffixes)})" if suffixes else ""
        raise DataError(
            f"no {kind} files{listed} below {root}{there}: type --set {key}=FOLDER to name the folder that holds them."
        )
    return found


def name_problem(name: str) -> str | None:
    """Say why a file's name cannot be a key."""
    if "\n" in name or "\r" in name:
        return "its name holds a line break: rename it"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    return None


# Which audio files and images lie below a folder.

Kind = Literal["audio", "images"]
SUFFIXES: dict[Kind, tuple[str, ...]] = {"audio": AUDIO, "images": IMAGES}


@dataclass(frozen=True)
class Found:
    """What lies below a folder.

    Attributes:
        root: the folder.
        names: the paths in it of the files of every kind.
        refused: those whose names cannot be used.
        twins: files of every kind that are left out, and those that hold the same.
        notes: what else is left out, in words.
    """

    root: Path
    names: dict[Kind, list[str]]
    refused: dict[Kind, list[BadItem]]
    twins: dict[Kind, dict[str, str]]
    notes: list[str]

    def count(self, kind: Kind) -> int:
        """Count the files of a kind, with those that cannot be used."""
        return len(self.names[kind]) + len(self.refused[kind])

    @property
    def kinds(self) -> list[Kind]:
        """The kinds that there are, the more frequent one first."""
        return sorted((kind for kind in SUFFIXES if self.count(kind)), key=self.count, reverse=True)


def find(root: Path) -> Found:
    """Find all audio files and images below a folder; names that begin with a dot are left out.

    Raises:
        ConfigError: there is no such folder.
        DataError: it cannot be read, or holds neither.
    """
    if not root.is_dir():
        what = "is a file, no folder" if root.exists() else "is not there"
        raise ConfigError(f"{root} {what}: name the folder that holds the audio files or the images.")
    try:
        files = find_files(root, AUDIO + IMAGES, "audio or image", "FOLDER")
    except DataError as error:
        if isinstance(error.__context__, OSError):  # what the system refused is said already
            raise
        raise DataError(
            f"no audio files ({', '.join(AUDIO)}) and no images ({', '.join(IMAGES)}) below {root}: "
            "name the folder that holds them."
        ) from None
    names: dict[Kind, list[str]] = {
        kind: [name for name in files.names if name.lower().endswith(suffixes)] for kind, suffixes in SUFFIXES.items()
    }
    twins: dict[Kind, dict[str, str]] = {
        "audio": audio_files.find_twins(root, names["audio"]),
        "images": images.find_twins(root, names["images"]),
    }
    names = {kind: [name for name in names[kind] if name not in twins[kind]] for kind in SUFFIXES}
    refused: dict[Kind, list[BadItem]] = {
        kind: [bad for bad in files.refused if bad.key.lower().endswith(suffixes)]
        for kind, suffixes in SUFFIXES.items()
    }
    notes = [note for same in twins.values() for note in words_of_twins(same)]
    return Found(root, names, refused, twins, [*files.notes(), *notes])
