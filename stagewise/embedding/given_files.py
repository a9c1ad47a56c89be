"""Files and folders that somebody names, and the key of each: where it is, as it was named."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from stagewise.datasets.bad_items import SHOWN, probe_all
from stagewise.datasets.base import BadItem
from stagewise.datasets.found_files import find_files
from stagewise.errors import ConfigError, DataError

H = TypeVar("H")


@dataclass(frozen=True)
class Given:
    """The files that were named, or that lie in the folders that were.

    Attributes:
        keys: their paths, as they were named, with slashes.
        bad: those that cannot be used.
    """

    keys: list[str]
    bad: list[BadItem]

    @classmethod
    def of(cls, paths: Sequence[str | Path], suffixes: Sequence[str], kind: str) -> Given:
        """Look for the files.

        Args:
            paths: files, whatever they are called, and folders, in which files of some kinds count.
            suffixes: of those, in small letters.
            kind: what they are, "audio" or "image".

        Raises:
            ConfigError: nothing was named.
        """
        if not paths:
            raise ConfigError(f"name {kind} files, or folders of them, to embed.")
        keys: list[str] = []
        bad: list[BadItem] = []
        for path in (os.fspath(each) for each in paths):
            if os.path.isdir(path):  # noqa: PTH112
                try:
                    names, refused = find_files(Path(path), suffixes, kind, "the folder")
                except DataError:
                    why = f"it holds no {kind} files ({', '.join(suffixes)}), or a folder in it cannot be read"
                    bad.append(BadItem(path, path, why))
                    continue
                keys += [f"{path.rstrip('/')}/{name}" for name in names]
                bad += refused
            else:
                keys.append(path)
        return cls(list(dict.fromkeys(keys)), bad)

    def probed(self, probe: Callable[[str], H | str], problem: Callable[[H], str | None]) -> list[H]:
        """Look at every file.

        Args:
            probe: returns what a file says of itself, or what is wrong with it.
            problem: says why a sound one cannot be used.

        Raises:
            DataError: files cannot be used; names them.
        """
        bad, good = list(self.bad), list[H]()
        for key, header in zip(self.keys, probe_all(probe, self.keys), strict=True):
            reason = header if isinstance(header, str) else problem(header)
            if reason is not None:
                bad.append(BadItem(key, key, reason))
            elif not isinstance(header, str):
                good.append(header)
        refuse(bad, len(self.keys) + len(self.bad))
        return good


def refuse(bad: Sequence[BadItem], files: int) -> None:
    """Name the files that cannot be used.

    Raises:
        DataError: there are some.
    """
    if not bad:
        return
    lines = [f"  {ascii(item.path)[1:-1] if not item.path.isprintable() else item.path}: {item.reason}" for item in bad]
    more = [f"  … and {len(bad) - SHOWN:,} more"] if len(bad) > SHOWN else []
    remedy = "Repair them or leave them out, then type the same command again."
    raise DataError("\n".join([f"{len(bad):,} of {files:,} inputs cannot be used:", *lines[:SHOWN], *more, remedy]))
