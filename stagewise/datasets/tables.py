"""Tables of one class an item: CSV files with a column `file`, or `folder`, and one of the label's name."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from stagewise.datasets.found_files import refuse_ambiguous
from stagewise.datasets.labels import ItemLabels
from stagewise.datasets.textfiles import read_lines
from stagewise.errors import DataError
from stagewise.show import counted

KEYS = ("file", "folder")  # the column that says whose class a line is


def read_table(
    root: Path,
    name: str,
    path: Path,
    keys: Sequence[str],
    items: Mapping[str, int],
    paths: Sequence[str] | None = None,
) -> ItemLabels:
    """Read a CSV file with the columns `file` and `name`, or `folder` and `name`.

    A folder's class is that of all items below it. Files and folders that are not in the data set are ignored.

    Args:
        root: folder of the items, for whoever wrote a path below it.
        name: of the label.
        path: of the file.
        keys: of the items.
        items: what a line may call an item.
        paths: of the items below the root; their keys when left out.

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
    key = key_column(header)
    if key is None or name not in header:
        raise DataError(
            f"{path}:1: the first line must name the columns `file` (or `folder`) and `{name}`, with a comma between "
            f"them, not {header}."
        )
    folders = _folders(keys if paths is None else paths)
    key_place, value_place = header.index(key), header.index(name)
    values = [""] * len(keys)
    known: set[int] = set()
    for number, row in numbered_rows:
        if len(row) != len(header):
            raise DataError(f"{path}:{number}: {counted(len(row), 'column')} where the first line has {len(header)}.")
        where, found = f"{path}:{number}: {row[key_place]}", list[int]()
        if key == "folder":
            found = folders.get(row[key_place].removeprefix("./").strip("/"), [])
        elif (item := items.get(row[key_place])) is not None:
            refuse_ambiguous(item, where)
            found = [item]
        if twice := known.intersection(found):
            which = f", for {keys[min(twice)]}," if key == "folder" else ""
            raise DataError(f"{where} is here a second time{which}: delete one of the two lines.")
        known.update(found)
        for item in found:
            values[item] = row[value_place]
    if not known:
        example = keys[0] if key == "file" else next(iter(folders), keys[0])
        meant = key == "file" and any(row[key_place].strip("/") in folders for _, row in numbered_rows)
        remedy = f"they are folders: begin with `folder,{name}`" if meant else f"write paths as '{example}'"
        raise DataError(f"{path}: none of its {key}s is in the data set: {remedy}.")
    return ItemLabels.from_names(values)


def key_column(header: Sequence[str]) -> str | None:
    """Return the column that says whose class a line is, None if there is none."""
    return next((key for key in KEYS if key in header), None)


def _folders(paths: Sequence[str]) -> dict[str, list[int]]:
    """Return the items below every folder."""
    found: dict[str, list[int]] = {}
    for item, path in enumerate(paths):
        for folder in list(PurePosixPath(path).parents)[:-1]:
            found.setdefault(folder.as_posix(), []).append(item)
    return found
