"""items.csv: the items of a run's data set in the order of its stores, and what each was for; without absolute paths.

A line for each: `key`, `length` (samples, or patches) and `split`: train, validation, test, or none. A stage that is
trained on other items, as where its objective needs labels, has a column of its own, `split:NAME`.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stagewise import atomic
from stagewise.errors import ConfigError, IntegrityError
from stagewise.runs.folder import ITEMS, RunFolder
from stagewise.stores import StoreReader

REMEDY = "Type `stagewise run FILE` with its pipeline file to write it again; nothing is trained for that."
Words = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Items:
    """The items of a data set, in order.

    Attributes:
        keys: of the items.
        lengths: samples or patches of each, int64 (N,).
        splits: what each is for, (N,), by stage.
    """

    keys: Sequence[str]
    lengths: npt.NDArray[np.int64]
    splits: Mapping[str, Words]


def write_items(run: RunFolder, items: Items) -> str:
    """Write items.csv, unless it says that already, and return its sha256, which the lock file is to keep."""
    first, *others = items.splits
    own = [name for name in others if not np.array_equal(items.splits[name], items.splits[first])]
    columns = {"split": items.splits[first]} | {f"split:{name}": items.splits[name] for name in own}
    text, words = io.StringIO(), [column.tolist() for column in columns.values()]
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["key", "length", *columns])
    table.writerows(zip(items.keys, items.lengths.tolist(), *words, strict=True))
    content = text.getvalue().encode()
    digest, path = hashlib.sha256(content).hexdigest(), run.path / ITEMS
    if not path.is_file() or atomic.sha256_of(path) != digest:
        atomic.write_bytes(path, content)
    return digest


def read_items(run: RunFolder) -> Items | None:
    """Return what `write_items` wrote; None of a run that is older than it.

    Raises:
        IntegrityError: it is not what was written.
    """
    locked, path = run.locked, run.path / ITEMS
    if locked is None or locked.get("items") is None:
        return None
    content = atomic.read_bytes(path) if path.is_file() else None
    if content is None or hashlib.sha256(content).hexdigest() != locked["items"]:
        raise IntegrityError(f"{path} is {'missing' if content is None else 'not what was written'}. {REMEDY}")
    try:
        head, *lines = csv.reader(io.StringIO(content.decode(), newline=""))
        cells = dict(zip(head, zip(*lines, strict=True) if lines else [()] * len(head), strict=True))
        names = [stage["name"] for stage in locked["stages"]]
        splits = {name: np.array(cells.get(f"split:{name}", cells["split"]), np.str_) for name in names}
        return Items(cells["key"], np.array(cells["length"]).astype(np.int64), splits)
    except (ValueError, KeyError, OverflowError, csv.Error) as error:  # whoever can write a file can seal it again
        raise IntegrityError(f"{path} is damaged ({type(error).__name__}: {error}). {REMEDY}") from None


class ItemStore(StoreReader):
    """A store that knows whose rows it holds.

    Args:
        run: the run.
        folder: of the stage.
        stage: its name.
    """

    def __init__(self, run: RunFolder, folder: Path, stage: str) -> None:
        super().__init__(folder)
        self._run, self._stage = run, stage

    @property
    def keys(self) -> Sequence[str]:
        """The key of every item: `store[i]` are the rows of `store.keys[i]`.

        Raises:
            ConfigError: the run is older than that keys are kept.
            IntegrityError: they are damaged.
        """
        return self._items.keys

    @property
    def splits(self) -> Words:
        """What every item was for when the stage was trained: "train", "validation", "test", or "none"; (items,).

        Raises what `keys` does.
        """
        return self._items.splits[self._stage]

    @cached_property
    def _items(self) -> Items:
        items = read_items(self._run)
        if items is None:
            raise ConfigError(f"{self._run.path} was made before the keys of items were kept. {REMEDY}")
        if len(items.keys) != self.items:
            path = self._run.path / ITEMS
            raise IntegrityError(f"{path} is of {len(items.keys)} items, the store of {self.items}. {REMEDY}")
        return items
