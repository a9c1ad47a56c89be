"""What lines of lists, phone files and tables call the files of a data set: matched in one way everywhere."""

from __future__ import annotations

import codecs
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stagewise.errors import DataError
from stagewise.text import counted

# Small text files around a data set: lines with their numbers, whatever system wrote them.

LINE_END = re.compile("\r\n?|\n")
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_lines(path: Path, blank: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the number and text of every line; UTF-8 and UTF-16 with a byte order mark, and any line ends, are read.

    Args:
        path: of the file.
        blank: also yield the lines that hold nothing.

    Raises:
        DataError: the file is missing, unreadable or neither UTF-8 nor UTF-16.
    """
    number = 1
    try:
        for line in _lines(path):
            if "\0" in line:
                raise UnicodeError
            if blank or line.strip():
                yield number, line
            number += 1
    except UnicodeError:
        raise DataError(f"{path}:{number}: not UTF-8 text: save the file as UTF-8.") from None
    except OSError as error:
        here = "" if path.is_absolute() else f"; paths start where you type, in {Path.cwd()}"
        raise DataError(f"cannot read {path} ({error.strerror}{here}): check the path.") from None


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if number == 0 and line.startswith(UTF_16):
                yield from LINE_END.split((line + file.read()).decode("utf-16"))
                return
            text = line.decode("utf-8-sig" if number == 0 else "utf-8").removesuffix("\n").removesuffix("\r")
            yield from LINE_END.split(text) if "\r" in text else (text,)


AMBIGUOUS, LEFT_OUT = -1, -2  # in place of an item: several files have that name; the file is there, and no item
EXAMPLES = 3  # of names that nothing has


def tidy(name: str) -> str:
    """Return a name as names are compared: composed, with slashes, without `./`, a slash or blanks around it."""
    name = unicodedata.normalize("NFC", name).strip().replace("\\", "/")
    return posixpath.normpath(name).strip("/") if name else ""


class Names:
    """The paths of files below a folder, and which of them a name means.

    A file may be called by its path, also without its suffix, without its folder, or without both.

    Args:
        paths: of the files, with slashes.
        twins: other paths of some of them, by which they are found, too.
    """

    def __init__(self, paths: Sequence[str], twins: Mapping[str, str] | None = None) -> None:
        self.paths = paths
        self._twins = twins or {}
        self._twinned = frozenset(self._twins.values())
        self._items: Sequence[int] = range(len(paths))
        self._places: Sequence[int] = self._items
        self._files: dict[str, int] = {}  # made when first asked: most data sets have no list and no table
        self._folders: dict[str, list[int]] = {}

    def only(self, places: npt.NDArray[np.int64]) -> Names:
        """Return the same names where only the files at these places are items, in that order."""
        chosen = copy(self)
        items = np.full(len(self.paths), LEFT_OUT, np.int64)
        items[places] = np.arange(len(places))
        chosen._items, chosen._places = items.tolist(), places.tolist()
        return chosen

    def __len__(self) -> int:
        return len(self._places)

    @cached_property
    def blanks(self) -> int:
        """How many blanks the name of a file holds at most."""
        return max((len(path.split()) - 1 for path in self.paths), default=0)

    def path(self, item: int) -> str:
        """Return the path of an item."""
        return self.paths[self._places[item]]

    def find(self, name: str) -> int | None:
        """Return the item that a name means, AMBIGUOUS or LEFT_OUT; None if it is that of no file."""
        if not self._files:
            self._files |= _by_name(self.paths)
            for twin, path in self._twins.items():
                for other in (_base(tidy(twin)), tidy(twin)):
                    self._files.setdefault(other, self._files[path])
        place = self._files.get(name)
        if place is None:
            place = self._files.get(tidy(name))
        return place if place is None or place < 0 else self._items[place]

    def has_twin(self, item: int) -> bool:
        """Say whether an item is there as several files, each of which may be named."""
        return self.path(item) in self._twinned

    def find_in_folder(self, name: str) -> list[int] | None:
        """Return the items below a folder, LEFT_OUT for files that are none; None if there is no such folder."""
        if not self._folders:
            for place, path in enumerate(self.paths):
                folder = posixpath.dirname(tidy(path))
                while folder:
                    self._folders.setdefault(folder, []).append(place)
                    folder = posixpath.dirname(folder)
        places = self._folders.get(tidy(name))
        return places and [self._items[place] for place in places]


def _by_name(paths: Sequence[str]) -> dict[str, int]:
    """Map every name to the place of its file; longer names win over shorter ones, and a path as it is over all."""
    places: dict[str, int] = {}
    tidied = [tidy(path) for path in paths]
    forms: list[Callable[[str], str]] = [lambda path: _stem(_base(path)), _base, _stem, str]
    for form in forms:
        own: dict[str, int] = {}
        for place, path in enumerate(tidied):
            name = form(path)
            own[name] = AMBIGUOUS if name in own else place
        places |= own
    return places | {path: place for place, path in enumerate(paths)}


def _base(path: str) -> str:
    return path.rpartition("/")[2]


def _stem(path: str) -> str:
    return path[: path.rindex(".")]


def refuse_ambiguous(item: int | None, where: str) -> None:
    """Refuse a short name that means several files.

    Raises:
        DataError: the item is AMBIGUOUS.
    """
    if item == AMBIGUOUS:
        raise DataError(f"{where} is the name of several files: write it with its folder and suffix.")


def few_of(names: Sequence[str], count: int | None = None) -> str:
    """Write the first of some names, and whether there are more."""
    shown = names[:EXAMPLES]
    return ", ".join(shown) + (", …" if (len(names) if count is None else count) > len(shown) else "")


@dataclass(frozen=True)
class Strays:
    """Lines of a list or a table that name no file of the data set.

    Attributes:
        lines: how many there are.
        examples: the first of the names.
        what: "file" or "folder".
    """

    lines: int
    examples: Sequence[str]
    what: str = "file"

    @classmethod
    def of(cls, names: Sequence[str], what: str = "file") -> Strays | None:
        """Return what is to be said of names that nothing has; None where there are none."""
        return cls(len(names), tuple(names[:EXAMPLES]), what) if names else None

    def __str__(self) -> str:
        named = few_of(self.examples, self.lines)
        return f"{counted(self.lines, 'line names', 'lines name')} no {self.what}: {named}"
