"""The files of some kinds below a folder, however nested: their names, and what is left out."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stagewise.datasets.base import BadItem
from stagewise.errors import DataError
from stagewise.show import counted, printable

SHOWN = 6  # suffixes that are named one by one
# Folders in which other programs keep thumbnails, copies and what was deleted.
FOREIGN = {
    *("@eaDir", "@Recycle", "@Recently-Snapshot", "#recycle", "#snapshot", "__MACOSX", "lost+found"),
    *("$RECYCLE.BIN", "System Volume Information"),
}
SYSTEM = {"thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r"}
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
    """

    names: list[str]
    refused: list[BadItem]
    others: Mapping[str, int]
    hidden: int
    unread: Mapping[str, int]

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
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()  # a link that leads back up would never end
            continue
        visited.add((status.st_dev, status.st_ino))
        foreign.update(sorted(FOREIGN.intersection(folders)))
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in FOREIGN)
        within = Path(os.path.relpath(folder, root)).as_posix()  # once a folder: it asks the system where we are
        for file in files:
            suffix = os.path.splitext(file)[1].lower()  # noqa: PTH122
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
    found = Files(sorted(names), refused, others, hidden, foreign)
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
