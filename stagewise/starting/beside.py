"""What lies at the top of a folder beside its items: the lists of a split, phone labels, tables of classes.

Taken is what a data set takes as it stands; the rest is named.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from stagewise.datasets.labels import read_alignment
from stagewise.datasets.names import Names
from stagewise.datasets.splits import read_split_lists
from stagewise.datasets.tables import SUFFIXES as TABLES
from stagewise.datasets.tables import Table, read_cells, read_table
from stagewise.errors import DataError
from stagewise.show import counted
from stagewise.starting.look import Pictures, Recordings, tells_apart
from stagewise.starting.recipe import Line

SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".jsonl")
SHOWN = 6
SHOWN_LETTERS = 60
LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")  # a key of TOML and the name of a probe
T = TypeVar("T")


class Beside:
    """The text files at the top of a folder, each of which is taken once at most."""

    def __init__(self, content: Recordings | Pictures) -> None:
        transcribed = {PurePosixPath(name).stem for name in content.names if "/" not in name}
        self._left = {
            path.name: path
            for path in sorted(content.root.iterdir())
            if path.suffix.lower() in SUFFIXES
            and path.stem not in transcribed
            and not path.name.startswith(".")
            and path.is_file()
        }
        self._refused: list[str] = []

    @property
    def notes(self) -> list[str]:
        """What was not taken, and why."""
        names = list(self._left)
        more = [f"and {counted(len(names) - SHOWN, 'other')}"] if len(names) > SHOWN else []
        return self._refused + ([f"beside the files, not used: {', '.join(names[:SHOWN] + more)}"] if names else [])

    def splits(self, names: Names) -> tuple[list[Line], set[int] | None]:
        """Return the line for `train.txt` and `test.txt` if both list keys, and the items that they name."""
        if not {"train.txt", "test.txt"} <= set(self._left):
            return [], None
        paths = {name: str(self._left[f"{name}.txt"]) for name in ("train", "test")}
        members = self._take(partial(read_split_lists, paths, names), "train.txt", "test.txt")
        if members is None:
            return [], None
        train, test = (f"{len(members[name]):,}" for name in ("train", "test"))
        why = f"lists found here: {train} for training, {test} for testing"
        return [("splits", paths, why)], members["train"] | members["test"]

    def phones(self, names: Names, lengths: npt.NDArray[np.int64]) -> list[Line]:
        """Return the line for the file of phone labels, if there is one that fits the items."""
        files = [name for name, path in self._left.items() if path.suffix == ".txt" and _numbers_follow(path)]
        if len(files) > 1:
            self._refuse(f"{' and '.join(files)} both look like phone labels: data.phones takes one", files)
        if len(files) != 1:
            return []
        path = self._left[files[0]]
        table = self._take(partial(read_alignment, path, names, lengths), *files)
        if table is None:
            return []
        labelled = int((np.diff(table.offsets) > 0).sum())
        return [("phones", str(path), f"phone labels of {labelled:,} of {counted(len(names), 'file')}, found here")]

    def tables(self, root: Path, names: Names, taken: Collection[str]) -> dict[str, tuple[str, Counter[str]]]:
        """Return the tables of one class a file: by label, their paths and how many items a class has.

        Args:
            root: of the files.
            names: of the items.
            taken: labels that there are already.
        """
        found: dict[str, tuple[str, Counter[str]]] = {}
        files = [(name, path) for name, path in self._left.items() if path.suffix.lower() in TABLES]
        for name, path in files:
            table = self._cells(path)
            if table is None or table.key is None:
                if table is not None and len(files) == 1:
                    first = ascii(",".join(table.columns))[1:-1][:SHOWN_LETTERS]
                    begins = f"begins with the line file,LABEL or folder,LABEL, not {first}"
                    self._refuse(f"{name} not used: a table of classes {begins}", [name])
                continue
            labels = table.labels
            if len(labels) == 1 and labels[0] in {*found, *taken, "phones"}:
                self._refuse(f"{name} not used: there is a {labels[0]} already: give its column another name", [name])
                continue
            if len(labels) != 1 or not LABEL.fullmatch(labels[0]):
                self._refuse(f'{name} is for you to choose from: data.labels = {{ COLUMN = "{path}" }}', [name])
                continue
            classes = self._take(partial(read_table, root, labels[0], path, names), name)
            if classes is None:
                continue
            counts = Counter(classes.names[number] for number in classes.classes.tolist() if number >= 0)
            if tells_apart(counts):
                found[labels[0]] = str(path), counts
            else:
                self._refused.append(f"{name} not used: no two of its classes have two files each")
        return found

    def _take(self, read: Callable[[], T], *names: str) -> T | None:
        """Read what files hold; say why not where a data set would refuse them."""
        try:
            found = read()
        except DataError as error:
            self._refuse(f"{' and '.join(names)} not used: {error}", names)
            return None
        for name in names:
            del self._left[name]
        return found

    def _cells(self, path: Path) -> Table | None:
        with suppress(DataError):
            return read_cells(path)
        return None

    def _refuse(self, why: str, names: Sequence[str]) -> None:
        self._refused.append(why)
        for name in names:
            del self._left[name]


def _numbers_follow(path: Path) -> bool:
    """Say whether the first line is a word and then whole numbers, as phone labels are."""
    try:
        with path.open("rb") as file:
            words = file.readline(4096).split()
    except OSError:
        return False
    return len(words) > 1 and all(word.isdigit() for word in words[1:])
