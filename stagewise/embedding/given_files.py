"""Files and folders that somebody names, and the key of each: where it is, as it was named."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stagewise.datasets.bad_items import AGAIN, probe_all, refuse
from stagewise.datasets.base import BadItem
from stagewise.datasets.found_files import find_files, name_problem
from stagewise.errors import ConfigError, DataError

REMEDY = "Repair them or leave them out."
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
                    keys[file] = None
                else:
                    shown = ascii(file)[1:-1]
                    bad.append(BadItem(shown, shown, problem))
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
            refuse(bad, len(self.keys) + len(self.bad), "input", REMEDY)
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
