"""Tables of classes: a line for each file or folder, and a column for each label, as spreadsheets write them."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stagewise.datasets.labels import ItemLabels
from stagewise.datasets.names import LEFT_OUT, Names, Strays, refuse_ambiguous
from stagewise.datasets.textfiles import read_lines
from stagewise.errors import DataError
from stagewise.show import counted

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
        remedy = f"they are folders: begin with `folder,{label}`" if meant else f"write paths as '{example}'"
        raise DataError(f"{path}: none of its {what}s is in the data set ({Strays.of(strays, what)}): {remedy}.")
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
            "ends with a double quote, and holds two for one."
        ) from None
    return Table(path, [cell.strip() for cell in rows[0][1]], rows[1:])
