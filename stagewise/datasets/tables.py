"""Tables of labels beside the data, and which items have a label."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stagewise.datasets.base import Dataset
from stagewise.datasets.labels import FrameTable, ItemLabels
from stagewise.datasets.names import LEFT_OUT, Names, Strays, few_of, read_lines, refuse_ambiguous
from stagewise.errors import ConfigError, DataError
from stagewise.text import counted

# Tables of classes: a line for each file or folder, and a column for each label, as spreadsheets write them.

SUFFIXES = (".csv", ".tsv")
FILE = ("file", "filename", "file_name", "path", "image")
KEYS = dict.fromkeys(FILE, "file") | {"folder": "folder"}  # what a line is of, by the name of its column
DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Table:
    """The cells of a file.

    Attributes:
        path: of the file.
        columns: the names in the first line, without blanks around them.
        rows: number and cells of every other line that holds something.
    """

    path: Path
    columns: Sequence[str]
    rows: Sequence[tuple[int, list[str]]]

    @property
    def key(self) -> int | None:
        """The place of the column that says whose classes a line has, None if there is none."""
        names = [name.lower() for name in self.columns]
        return next((names.index(key) for key in KEYS if key in names), None)

    @property
    def labels(self) -> list[str]:
        """The names of all other columns."""
        return [name for place, name in enumerate(self.columns) if place != self.key]

    def place(self, label: str) -> int | None:
        """Return the place of a label's column; capitals matter only where two columns differ in nothing else."""
        for same in (str, str.lower):
            found = [place for place, name in enumerate(self.columns) if same(name) == same(label)]
            if len(found) > 1:
                raise DataError(f"{self.path}:1: two columns are called {label}: give one of them another name.")
            if found and found[0] != self.key:
                return found[0]
        return None


def read_cells(path: Path, label: str = "LABEL") -> Table:
    """Read a file of cells between commas, semicolons or tabs, quoted or not.

    Args:
        path: of the file.
        label: that is looked for in it.

    Raises:
        DataError: it cannot be read, is empty, or a quoted cell does not end.
    """
    lines = list(read_lines(path, blank=True))
    head = next((text for _, text in lines if text.strip()), None)
    if head is None:
        raise DataError(f"{path} is empty: write `file,{label}` into its first line, and below it one file a line.")
    delimiters = sorted(DELIMITERS, key=head.count, reverse=True)
    cells = {delimiter: [cell.strip(' "').lower() for cell in head.split(delimiter)] for delimiter in delimiters}
    return _split(path, lines, next((each for each in delimiters if KEYS.keys() & cells[each]), delimiters[0]))


def read_table(root: Path, label: str, path: Path, names: Names) -> ItemLabels:
    """Read the column of a label: of files, or of folders, whose class is that of all items below.

    Args:
        root: folder of the items, for whoever wrote a path below it.
        label: name of the column.
        path: of the file.
        names: of the items.

    Raises:
        DataError: it is no such table, names a file twice, or none that is there.
    """
    if not path.is_file() and (root / path).is_file():
        raise DataError(f"{path} is missing: paths start at the current folder; type {root / path} instead.")
    table = read_cells(path, label)
    key, column = table.key, table.place(label)
    if key is None or column is None:
        raise DataError(f"{path}:1: {_headless(table, label, names)}")
    if not table.rows:
        raise DataError(f"{path} holds no line below its first: write one {table.columns[key]} a line.")
    what = KEYS[table.columns[key].lower()]
    values = [""] * len(names)
    known: set[int] = set()
    strays: list[str] = []
    there = False
    for number, row in table.rows:
        if len(row) != len(table.columns):
            raise DataError(
                f"{path}:{number}: {counted(len(row), 'column')} where the first line has {len(table.columns)}."
            )
        where, items = f"{path}:{number}: {row[key]}", _items(names, what, row[key])
        if items is None:
            strays.append(row[key])
            continue
        there = True
        refuse_ambiguous(items[0], where)
        found = set(items) - {LEFT_OUT}
        value = unicodedata.normalize("NFC", row[column].strip())
        if twice := {item for item in known & found if values[item] != value or not names.has_twin(item)}:
            which = f", for {names.path(min(twice))}," if what == "folder" else ""
            raise DataError(f"{where} is here a second time{which}: delete one of the two lines.")
        known |= found
        for item in found:
            values[item] = value
    if not there:
        meant = what == "file" and any(names.find_in_folder(row[key]) for _, row in table.rows)
        example = names.paths[0] if what == "file" else names.paths[0].rpartition("/")[0] or "FOLDER"
        advice = f"they are folders: begin with `folder,{label}`" if meant else f"write paths as '{example}'"
        raise DataError(f"{path}: none of its {what}s is in the data set ({Strays.of(strays, what)}): {advice}.")
    return ItemLabels.from_names(values, Strays.of(strays, what))


def _items(names: Names, what: str, name: str) -> list[int] | None:
    """Return the items that a line is of."""
    if what == "folder":
        return names.find_in_folder(name)
    item = names.find(name)
    return None if item is None else [item]


def _headless(table: Table, label: str, names: Names) -> str:
    """Say why the first line names no label of files."""
    first = ", ".join(table.columns)
    if any(names.find(cell) is not None for cell in table.columns):
        return f"the first line names a file, not columns: write `file,{label}` above it."
    if table.key is None:
        return (
            f"the first line must name the columns `file` (or `folder`) and `{label}`, with a comma, a semicolon or "
            f"a tab between them; it says: {first}."
        )
    return f"there is no column `{label}`; there are: {first}."


def _split(path: Path, lines: Sequence[tuple[int, str]], delimiter: str) -> Table:
    """Split lines into cells, which are whole where they are quoted; lines of empty cells hold nothing."""
    reader = csv.reader((f"{text}\n" for _, text in lines), delimiter=delimiter, strict=True, skipinitialspace=True)
    rows = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append((lines[reader.line_num - 1][0], row))
    except csv.Error as error:
        raise DataError(
            f"{path}:{lines[reader.line_num - 1][0]}: not cells between commas ({error}): a quoted cell begins and "
            "ends with a double quote; one inside it is written twice."
        ) from None
    return Table(path, [cell.strip() for cell in rows[0][1]], rows[1:])


# Where a label of one class an item comes from: a folder that the file lies in, its name, or a table.

FOLDER = re.compile(r"folder(?::([1-9][0-9]*))?")
PLACE = re.compile(r"\{([^{}]*)\}")


def read_labels(root: Path, label: str, source: str, names: Names, within: Names | None = None) -> ItemLabels:
    """Read a label from where its source says.

    Args:
        root: folder of the items.
        label: its name.
        source: "folder", "folder:2", a pattern such as "{digit}_{speaker}_*.wav", or the path of a table.
        names: of the items.
        within: the same items by their paths below folders of their own, where there are several folders.

    Raises:
        ConfigError: the source is none of these, or its pattern does not hold the label.
        DataError: no name fits the pattern, or the table is wrong.
    """
    if not isinstance(source, str):
        raise ConfigError(f"data.labels.{label} is {source!r}: {_advice(label)}")
    within = names if within is None else within
    if level := FOLDER.fullmatch(source):
        depth = int(level[1] or 1)
        folders = [path.split("/")[:-1] for path in _paths(within)]
        return ItemLabels.from_names([parts[depth - 1] if len(parts) >= depth else "" for parts in folders])
    if "{" in source:
        return ItemLabels.from_names(_in_names(label, source, within))
    if not source.lower().endswith(SUFFIXES):
        raise ConfigError(f'data.labels.{label} is "{source}": {_advice(label)}')
    return read_table(root, label, Path(source), names)


def labels_of(pattern: str) -> list[str]:
    """Return the labels that a pattern holds."""
    return PLACE.findall(pattern)


def _in_names(label: str, pattern: str, names: Names) -> list[str]:
    """Return what stands in the place of a label in the names of files, "" in those that do not fit."""
    places = labels_of(pattern)
    if places.count(label) != 1 or len(set(places)) < len(places):
        raise ConfigError(
            f'data.labels.{label} is "{pattern}", which needs {{{label}}} once, and no place of a name twice.'
        )
    # Blanks are left as they are: what stands between two places tells where one ends.
    parts = PLACE.split(unicodedata.normalize("NFC", pattern))
    told = "".join("([^/]+?)" if number % 2 else _literal(part) for number, part in enumerate(parts))
    values = []
    for path in _paths(names):
        name = path if "/" in pattern else path.rpartition("/")[2]
        fits = re.fullmatch(told, name.rpartition(".")[0]) or re.fullmatch(told, name)
        values.append(fits[places.index(label) + 1] if fits else "")
    if not any(values):
        raise DataError(
            f'data.labels.{label}: no file is called as "{pattern}" says; the first is {names.path(0)}. A {{NAME}} and '
            "a * stand for any letters but a slash; without a slash, only the names of files are looked at."
        )
    return values


def _literal(part: str) -> str:
    return "[^/]*".join(map(re.escape, part.split("*")))


def _paths(names: Names) -> list[str]:
    return [unicodedata.normalize("NFC", names.path(item)) for item in range(len(names))]


def _advice(label: str) -> str:
    return f'set it to "folder", "folder:2", the path of a .csv or .tsv file, or a pattern of names with {{{label}}}.'


# Of every label of a data set: how many items have one, which lines name no item, which classes cannot be right.


def label_facts(dataset: Dataset, read: Collection[str]) -> list[dict[str, Any]]:
    """Return what is known of every label, JSON-able.

    Args:
        dataset: whose labels they are; of several views of an item one is counted.
        read: labels that a probe or an objective reads, for which classes without training or test items matter.
    """
    found = []
    for name, table in dataset.labels.items():
        fact: dict[str, Any] = {
            "name": name,
            "items": int(has_label(table)[:: dataset.views].sum()),
            "of": len(dataset) // dataset.views,
            "classes": len(table.names),
            "lines_of_no_item": table.strays.lines if table.strays else 0,
            "examples": [] if table.strays is None else list(table.strays.examples),
            "what": "file" if table.strays is None else table.strays.what,
            "fingerprint": dataset.label_fingerprint(name),
        }
        train, test = (_classes(table, dataset.split(part)) if name in read else set() for part in ("train", "test"))
        # A class that is in neither is a number that a file of phones does not use.
        fact["not_trained_on"], fact["not_tested"] = (
            [table.names[number] for number in sorted(classes)] for classes in (test - train, train - test)
        )
        found.append(fact)
    return found


def label_words(fact: Mapping[str, Any]) -> tuple[str, bool]:
    """Say what `label_facts` found of a label, and whether that is a warning."""
    some, every = fact["items"], fact["of"]
    parts = [f"{fact['name']}: {f'{some:,} of {every:,}' if some < every else f'all {every:,}'} items have a label"]
    lost, untrained, untested = fact["lines_of_no_item"], fact["not_trained_on"], fact["not_tested"]
    if lost:
        parts.append(f"{counted(lost, 'line names', 'lines name')} no {fact['what']}: {few_of(fact['examples'], lost)}")
    parts.append(counted(fact["classes"], "class", "classes"))
    if untrained:
        parts.append(
            f"no training item of {counted(len(untrained), 'class', 'classes')}, of which all test items are told "
            f"wrong: {few_of(untrained)}"
        )
    if untested:
        parts.append(f"no test item of {counted(len(untested), 'class', 'classes')}: {few_of(untested)}")
    return "; ".join(parts), bool(lost or untrained)


def has_label(table: ItemLabels | FrameTable) -> npt.NDArray[np.bool_]:
    """Return which items have a label, or frames with one."""
    return np.diff(table.offsets) > 0 if isinstance(table, FrameTable) else np.asarray(table.classes) >= 0


def _classes(table: ItemLabels | FrameTable, items: npt.NDArray[np.int64]) -> set[int]:
    chosen_N = np.zeros(len(has_label(table)), np.bool_)
    chosen_N[items] = True
    if isinstance(table, FrameTable):
        chosen_N = np.repeat(chosen_N, np.diff(table.offsets))
    return {*np.unique(table.classes[chosen_N]).tolist()} - {-1}
