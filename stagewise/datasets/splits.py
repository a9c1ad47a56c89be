"""Which items are for training and which for testing: from two lists of keys, or by the keys' hashes.

Shape suffixes: N items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stagewise.datasets.names import Names, Strays, refuse_ambiguous
from stagewise.datasets.textfiles import read_lines
from stagewise.errors import ConfigError, DataError
from stagewise.show import counted


def read_split_lists(splits: Mapping[str, str], names: Names) -> dict[str, set[int]]:
    """Read the lists of train and test files, one name a line, as sets of item numbers.

    Args:
        splits: the two files, `{train = "…", test = "…"}`.
        names: of the items.

    Raises:
        ConfigError: `splits` does not name exactly `train` and `test`.
        DataError: a list is missing or empty, a listed name is that of no file, or of several, or is in both lists.
    """
    if not isinstance(splits, Mapping) or set(splits) != {"train", "test"}:
        raise ConfigError('data.splits must name two files of keys: splits = { train = "…", test = "…" }.')
    members: dict[str, set[int]] = {}
    for name in ("train", "test"):
        path = Path(splits[name])
        found: set[int] = set()
        missing: list[str] = []
        first = 0
        for number, key in read_lines(path):
            item = names.find(key)
            refuse_ambiguous(item, f"{path}:{number}: {key}")
            if item is None:
                missing.append(key)
                first = first or number
            else:
                found.add(item)
                if name == "test" and item in members["train"]:
                    raise DataError(f"{path}:{number}: {key} is also in the train list: delete one of the two.")
        if missing:
            raise DataError(
                f"{path}:{first}: {Strays.of(missing)}: set data.root to the folder that holds them, or "
                f"correct data.splits.{name}."
            )
        if not found:
            raise DataError(f"{path} lists no keys: write one key a line, or leave data.splits out.")
        members[name] = found
    return members


def words_of_unlisted(keys: Sequence[str], members: Mapping[str, set[int]]) -> list[str]:
    """Say how many files neither list names, which are no items then."""
    others = sorted(set(range(len(keys))).difference(*members.values()))
    if not others:
        return []
    files = f"{counted(len(others), 'file')}, such as {keys[others[0]]}"
    return [f"left out, as neither list of data.splits names them: {files}"]


def hash_split(keys: Sequence[str], groups: Sequence[int], test_fraction: float) -> npt.NDArray[np.bool_]:
    """Choose about `test_fraction` of every group for testing, by the keys' hashes; returns a mask (N,).

    A group of two items or more is in both splits. An item that is alone in its group is for training: nothing that
    could tell it is left if it is tested. Where all are alone, groups say nothing, and all items are one.
    """
    is_test_N = np.zeros(len(keys), dtype=np.bool_)
    members: dict[int, list[int]] = {}
    for item, group in enumerate(groups):
        members.setdefault(group, []).append(item)
    if len(members) == len(keys):
        members = {0: list(range(len(keys)))}
    for items in members.values():
        count = min(round(test_fraction * len(items)), len(items) - 1)
        if test_fraction > 0 and len(items) > 1:
            count = max(count, 1)
        items.sort(key=lambda item: hashlib.sha256(keys[item].encode()).digest())
        is_test_N[items[:count]] = True
    return is_test_N
