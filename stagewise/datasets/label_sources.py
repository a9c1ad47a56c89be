"""Where a label of one class an item comes from: a folder that the file lies in, its name, or a table."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from stagewise.datasets.labels import ItemLabels
from stagewise.datasets.names import Names
from stagewise.datasets.tables import SUFFIXES, read_table
from stagewise.errors import ConfigError, DataError

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
        raise ConfigError(f"data.labels.{label} is {source!r}: {_remedy(label)}")
    within = names if within is None else within
    if level := FOLDER.fullmatch(source):
        depth = int(level[1] or 1)
        folders = [path.split("/")[:-1] for path in _paths(within)]
        return ItemLabels.from_names([parts[depth - 1] if len(parts) >= depth else "" for parts in folders])
    if "{" in source:
        return ItemLabels.from_names(_in_names(label, source, within))
    if not source.lower().endswith(SUFFIXES):
        raise ConfigError(f'data.labels.{label} is "{source}": {_remedy(label)}')
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


def _remedy(label: str) -> str:
    return f'set it to "folder", "folder:2", the path of a .csv or .tsv file, or a pattern of names with {{{label}}}.'
