"""The files of some kinds below a folder, however nested: their names, and which cannot be keys."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from stagewise.datasets.base import BadItem
from stagewise.errors import DataError


def find_files(
    root: Path, suffixes: Sequence[str], kind: str, key: str, unread: list[BadItem] | None = None
) -> tuple[list[str], list[BadItem]]:
    """Return the paths of all files below a folder, with slashes and sorted, and those that cannot be keys.

    Names that begin with a dot are left out, links are followed.

    Args:
        root: the folder.
        suffixes: of the files, in small letters.
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
    visited: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()  # a link that leads back up would never end
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        within = Path(os.path.relpath(folder, root)).as_posix()  # once a folder: it asks the system where we are
        for file in files:
            if file.startswith(".") or not file.lower().endswith(tuple(suffixes)):
                continue
            name = file if within == "." else f"{within}/{file}"
            problem = name_problem(name)
            if problem is None:
                names.append(name)
            else:
                shown = ascii(name)[1:-1]
                refused.append(BadItem(shown, f"{root}/{shown}", problem))
    if not names and not refused:
        raise DataError(
            f"no {kind} files ({', '.join(suffixes)}) below {root}: "
            f"type --set {key}=FOLDER to name the folder that holds them."
        )
    return sorted(names), refused


def name_problem(name: str) -> str | None:
    """Say why a file's name cannot be a key."""
    if "\n" in name or "\r" in name:
        return "its name holds a line break: rename it"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8: rename it"
    return None
