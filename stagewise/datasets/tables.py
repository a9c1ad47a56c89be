"""Tables of one class an item: CSV files with the columns `file` and the label's name."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from stagewise.datasets.found_files import refuse_ambiguous
from stagewise.datasets.labels import ItemLabels
from stagewise.datasets.textfiles import read_lines
from stagewise.errors import DataError
from stagewise.show import counted


def read_table(root: Path, name: str, path: Path, keys: Sequence[str], items: Mapping[str, int]) -> ItemLabels:
    """Read a CSV file with the columns `file` and `name`; files that are not items are ignored.

    Args:
        root: folder of the items, for whoever wrote a path below it.
        name: of the label.
        path: of the file.
        keys: of the items.
        items: what a line may call an item.

    Raises:
        DataError: it is no such table, names a file twice, or none that is an item.
    """
    if not path.is_file() and (root / path).is_file():
        raise DataError(f"{path} is missing: paths start at the current folder; type {root / path} instead.")
    lines = list(read_lines(path))
    rows = csv.reader([line for _, line in lines], strict=True)
    try:
        (_, header), *numbered_rows = [(lines[rows.line_num - 1][0], row) for row in rows]
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path} is not a CSV table ({error}): write `file,{name}` and one file a line.") from error
    if "file" not in header or name not in header:
        raise DataError(f"{path}:1: the first line must name the columns `file` and `{name}`, not {header}.")
    file_column, value_column = header.index("file"), header.index(name)
    values = [""] * len(keys)
    known: set[int] = set()
    for number, row in numbered_rows:
        if len(row) != len(header):
            raise DataError(f"{path}:{number}: {counted(len(row), 'column')} where the first line has {len(header)}.")
        item, where = items.get(row[file_column]), f"{path}:{number}: {row[file_column]}"
        refuse_ambiguous(item, where)
        if item in known:
            raise DataError(f"{where} is here a second time: delete one of the two lines.")
        if item is not None:
            values[item] = row[value_column]
            known.add(item)
    if not known:
        raise DataError(f"{path}: none of its files is in the data set: write paths as '{keys[0]}'.")
    return ItemLabels.from_names(values)
