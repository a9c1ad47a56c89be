"""Which items are for training and which for testing: from two lists of keys, or by the keys' hashes.

Shape suffixes: N items.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stagewise.datasets.found_files import refuse_ambiguous
from stagewise.datasets.textfiles import read_lines
from stagewise.errors import ConfigError, DataError
from stagewise.show import counted

Find = Callable[[str], int | None]


def read_split_lists(splits: Mapping[str, str], find: Find) -> dict[str, set[int]]:
    """Read the lists of train and test keys, one key a line, as sets of item numbers.

    Args:
        splits: the two files, `{train = "…", test = "…"}`.
        find: returns the item that a listed key names, None if there is none.

    Raises:
        ConfigError: `splits` does not name exactly `train` and `test`.
        DataError: a list is missing or empty, a listed key is not there, names several files, or is in both lists.
    """
    if not isinstance(splits, Mapping) or set(splits) != {"train", "test"}:
        raise ConfigError('data.splits must name two files of keys: splits = { train = "…", test = "…" }.')
    members: dict[str, set[int]] = {}
    for name in ("train", "test"):
        path = Path(splits[name])
        found: set[int] = set()
        missing: list[str] = []
        for number, key in read_lines(path):
            item = find(key)
            if item is None:
                item = find(key.strip().removeprefix("./"))
            refuse_ambiguous(item, f"{path}:{number}: {key}")
            if item is None:
                missing.append(f"{path}:{number}: {key}")
            else:
                found.add(item)
                if name == "test" and item in members["train"]:
                    raise DataError(f"{path}:{number}: {key} is also in the train list: delete one of the two.")
        if missing:
            raise DataError(
                f"{missing[0]} is not in the data set ({counted(len(missing), 'such key')} in the list): "
                f"set data.root to the folder that holds them, or correct data.splits.{name}."
            )
        if not found:
            raise DataError(f"{path} lists no keys: write one key a line, or leave data.splits out.")
        members[name] = found
    return members


def hash_split(keys: Sequence[str], groups: Sequence[int], test_fraction: float) -> npt.NDArray[np.bool_]:
    """Choose about `test_fraction` of every group for testing, by the keys' hashes; returns a mask (N,).

    A group of two items or more is in both splits; groups of one are split together, as if they were one.
    """
    is_test_N = np.zeros(len(keys), dtype=np.bool_)
    sizes: dict[int, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    members: dict[int | None, list[int]] = {}
    for item, group in enumerate(groups):
        members.setdefault(group if sizes[group] > 1 else None, []).append(item)
    for items in members.values():
        count = round(test_fraction * len(items))
        if test_fraction > 0 and len(items) > 1:
            count = min(max(count, 1), len(items) - 1)
        items.sort(key=lambda item: hashlib.sha256(keys[item].encode()).digest())
        is_test_N[items[:count]] = True
    return is_test_N
