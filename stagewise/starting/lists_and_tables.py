"""What lies at the top of a folder beside its items: the lists of a split, phone labels, tables of classes.

Taken is what a data set takes as it stands; the rest is named.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from stagewise.datasets.labels import ItemLabels, read_alignment, read_split_lists
from stagewise.datasets.librispeech import SAMPLE_RATE
from stagewise.datasets.names import Names
from stagewise.datasets.tables import KEYS, Table, labels_of, read_cells, read_labels, read_table
from stagewise.datasets.tables import SUFFIXES as TABLES
from stagewise.errors import ConfigError, DataError
from stagewise.pipeline.wording import did_you_mean
from stagewise.starting.recipe import Line
from stagewise.starting.survey import Pictures, Recordings, tells_apart
from stagewise.text import counted

SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".jsonl")
SHOWN = 6
SHOWN_LETTERS = 60
MOST = 4  # labels of a table that are taken unless they are asked for: each costs a probe of every stage
NONE = "none"
T = TypeVar("T")


class Beside:
    """The text files at the top of a folder, each of which is taken once at most."""

    def __init__(self, content: Recordings | Pictures) -> None:
        self.pattern = content.labels if content.labels and "{" in content.labels else None
        self.wanted = (
            None if content.labels is None else {label.strip() for label in content.labels.split(",")} - {NONE}
        )
        self._root, self._later = content.root, {"phones"} if isinstance(content, Recordings) else set[str]()
        stems = {PurePosixPath(name).stem for name in content.names if "/" not in name}
        files = {
            path.name: path
            for path in sorted(content.root.iterdir())
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
        }
        own = Counter(path.suffix.lower() for path in files.values() if path.stem in stems)
        # What is called as an item is of that alone, but for a single table: birds.csv may be of all, beside birds.wav.
        self._left = {
            name: path
            for name, path in files.items()
            if path.stem not in stems or (path.suffix.lower() in TABLES and own[path.suffix.lower()] == 1)
        }
        self._offered: list[str] = []
        self._refused: list[str] = []
        kinds = Counter(
            path.suffix.lower()
            for name, path in files.items()
            if name not in self._left and path.suffix.lower() in TABLES
        )
        if kinds:
            named = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(kinds.items()))
            self._refused.append(f"called as the files that they lie beside, and not used: {named}")
        self._problems: list[str] = []

    def wants(self, label: str) -> bool:
        """Say whether a label that there is, or may be, is to be taken."""
        self._offered.append(label)
        return self.wanted is None or label in self.wanted

    def note(self, text: str) -> None:
        """Say what is not taken."""
        self._refused.append(text)

    def problem(self, text: str) -> None:
        """Say what has to be mended, or chosen, before anything is written."""
        self._problems.append(text)

    def check(self, labels: Collection[str]) -> None:
        """Refuse tables that look like labels and are none, and labels that were asked for and not found.

        Args:
            labels: that were found.

        Raises:
            ConfigError: there are some.
        """
        lost = sorted((self.wanted or set()) - {*labels, *self._later}) if self.pattern is None else []
        if lost and not self._problems:
            if lost[0] in self._offered:
                there = ", ".join(labels) or "none"
                raise ConfigError(
                    f"no label '{lost[0]}' was found that a probe could learn and be tested on; found: {there}."
                )
            offered = [label for label in dict.fromkeys(self._offered) if label != "phones"]
            meant = did_you_mean(lost[0], offered)
            there = f"there are: {', '.join(offered)}" if offered else "there are no labels"
            raise ConfigError(f"there is no label '{lost[0]}'{meant}; {there}.")
        if self._problems:
            raise ConfigError(f"{' '.join(self._problems)} Or type --labels {NONE}, to train without labels.")

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
        listed = members["train"] | members["test"]
        others = [names.path(item) for item in range(len(names)) if item not in listed]
        if others:
            files = f"{counted(len(others), 'file')}, such as {others[0]}"
            self.note(f"left out, as neither train.txt nor test.txt names them: {files}")
        return [("splits", paths, why)], listed

    def phones(self, names: Names, lengths: npt.NDArray[np.int64]) -> list[Line]:
        """Return the line for the file of phone labels, if there is one that fits the items."""
        if not self.wants("phones"):
            return []
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

    def no_phones(self, rate: int) -> None:
        """Refuse to go without phone labels if they were asked for.

        Raises:
            ConfigError: they were.
        """
        if not self.wanted or "phones" not in self.wanted:
            return
        needed = [] if rate == SAMPLE_RATE else [f"they need {SAMPLE_RATE:,} samples a second, and there are {rate:,}"]
        why = "; ".join([*needed, *self._refused])
        raise ConfigError(
            f"no phone labels were found at the top of {self._root} that fit{f' ({why})' if why else ''}: "
            "leave `phones` out of --labels, or put them there."
        )

    def labels(self, root: Path, names: Names, taken: Collection[str]) -> dict[str, tuple[str, Counter[str]]]:
        """Return the labels in the names of files, if there is a pattern of them, or in tables: sources and counts."""
        if self.pattern is None:
            return self.tables(root, names, taken)
        read = {label: read_labels(root, label, self.pattern, names) for label in labels_of(self.pattern)}
        return {label: (self.pattern, _counts(classes)) for label, classes in read.items()}

    def tables(self, root: Path, names: Names, taken: Collection[str]) -> dict[str, tuple[str, Counter[str]]]:
        """Return the tables of one class a file: by label, their paths and how many items a class has.

        Args:
            root: of the files.
            names: of the items.
            taken: labels that there are already.
        """
        found: dict[str, tuple[str, Counter[str]]] = {}
        if self.pattern is not None or self.wanted == set():
            return found
        files = [(name, path) for name, path in self._left.items() if path.suffix.lower() in TABLES]
        for name, path in files:
            if not path.stat().st_size:
                continue
            try:
                table = read_cells(path)
            except DataError as error:
                self.problem(str(error))
                continue
            if table.key is None:
                if problem := _keyless(table, names):
                    self.problem(problem)
                elif len(files) == 1:
                    first = ascii(",".join(table.columns))[1:-1][:SHOWN_LETTERS]
                    begins = f"begins with the line file,LABEL or folder,LABEL, not {first}"
                    self._refuse(f"{name} not used: a table of classes {begins}", [name])
                continue
            found |= self._labels(root, table, names, {*found, *taken, "phones"})
        return found

    def _labels(
        self, root: Path, table: Table, names: Names, taken: Collection[str]
    ) -> dict[str, tuple[str, Counter[str]]]:
        """Return the columns of a table that a probe could learn."""
        found: dict[str, tuple[str, Counter[str]]] = {}
        columns = [label for label in table.labels if label and self.wants(label)]
        many = []
        del self._left[table.path.name]
        if others := [column for column in columns if column.lower() in KEYS]:
            key = table.columns[table.key or 0]
            self.note(f"{table.path.name}: its column {key} says what a line is of; labels: {', '.join(others)}")
        for label in columns:
            if label in taken:
                self.note(f"{table.path.name} not used: there is a {label} already: give its column another name")
                continue
            try:
                classes = read_table(root, label, table.path, names)
            except DataError as error:
                self.problem(str(error))
                break
            counts = _counts(classes)
            if classes.strays or not tells_apart(counts):
                some = f"{label}: {counts.total():,} of {counted(len(names), 'item')} have a label"
                self.note("; ".join(filter(None, [some, str(classes.strays or "")])))
            if not tells_apart(counts):
                self.note(f"{label} of {table.path.name} not used: no two of its classes have two files each")
            elif self.wanted or len(columns) == 1 or 2 * len(counts) <= counts.total():
                found[label] = str(table.path), counts
            else:
                many.append(label)
        if many:
            self.note(
                f"{', '.join(many)} of {table.path.name} not used: more classes than half of the files; "
                f"--labels {shlex.quote(','.join([*sorted({*taken, *found} - {'phones'}), *many]))} takes them"
            )
        if len(found) > MOST and not self.wanted:
            self.problem(
                f"{table.path} has {len(found)} columns that could be labels, {', '.join(found)}: "
                f"choose, for example with --labels {next(iter(found))}."
            )
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

    def _refuse(self, why: str, names: Sequence[str]) -> None:
        self._refused.append(why)
        for name in names:
            del self._left[name]


def _counts(classes: ItemLabels) -> Counter[str]:
    return Counter(classes.names[number] for number in classes.classes.tolist() if number >= 0)


def _keyless(table: Table, names: Names) -> str | None:
    """Say how to mend a table of files that does not call their column `file`; None if it is another table."""
    if any(names.find(cell) is not None for cell in table.columns):
        return f"{table.path}:1: the first line names a file, not columns: write file,LABEL above it."
    for place, column in enumerate(table.columns):
        named = sum(names.find(row[place]) is not None for _, row in table.rows if len(row) > place)
        if named and 2 * named >= len(table.rows):
            return f"{table.path}:1: its column '{column}' names the files: call it `file`."
    return None


def _numbers_follow(path: Path) -> bool:
    """Say whether the first line is a word and then whole numbers, as phone labels are."""
    try:
        with path.open("rb") as file:
            words = file.readline(4096).split()
    except OSError:
        return False
    return len(words) > 1 and all(word.isdigit() for word in words[1:])
