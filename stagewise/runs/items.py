"""The items of a run: their keys, lengths and what each is for, and the mean row of each at a stage.

Legend: N items, C channels.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from stagewise import durable
from stagewise.arrays import Floats, Ints
from stagewise.errors import ConfigError, IntegrityError
from stagewise.runs.folder import ITEMS, RunFolder
from stagewise.runs.records import same_weights
from stagewise.runs.schemas import MeansFacts, checked
from stagewise.stores import StoreReader

# items.csv: the items of a run's data set in the order of its stores, and what each was for; without absolute paths.
#
# A line for each: `key`, `length` (samples, or patches) and `split`: train, validation, test, or none. A stage that is
# trained on other items, as where its objective needs labels, has a column of its own, `split:NAME`.

ADVICE = "Type `stagewise run FILE` with its pipeline file to write it again; nothing is trained for that."
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
    if not path.is_file() or durable.sha256_of(path) != digest:
        durable.write_bytes(path, content)
    return digest


def read_items(run: RunFolder) -> Items | None:
    """Return what `write_items` wrote; None of a run that is older than it.

    Raises:
        IntegrityError: it is not what was written.
    """
    locked, path = run.locked, run.path / ITEMS
    if locked is None or locked.get("items") is None:
        return None
    content = durable.read_bytes(path) if path.is_file() else None
    if content is None or hashlib.sha256(content).hexdigest() != locked["items"]:
        raise IntegrityError(f"{path} is {'missing' if content is None else 'not what was written'}. {ADVICE}")
    try:
        head, *lines = csv.reader(io.StringIO(content.decode(), newline=""))
        cells = dict(zip(head, zip(*lines, strict=True) if lines else [()] * len(head), strict=True))
        names = [stage["name"] for stage in locked["stages"]]
        splits = {name: np.array(cells.get(f"split:{name}", cells["split"]), np.str_) for name in names}
        return Items(cells["key"], np.array(cells["length"]).astype(np.int64), splits)
    except (ValueError, KeyError, OverflowError, csv.Error) as error:  # whoever can write a file can seal it again
        raise IntegrityError(f"{path} is damaged ({type(error).__name__}: {error}). {ADVICE}") from None


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
            raise ConfigError(f"{self._run.path} was made before the keys of items were kept. {ADVICE}")
        if len(items.keys) != self.items:
            path = self._run.path / ITEMS
            raise IntegrityError(f"{path} is of {len(items.keys)} items, the store of {self.items}. {ADVICE}")
        return items


# means.json and means.safetensors: the mean row of items at one stage, which all probes of items read.

FACTS, TENSORS = "means.json", "means.safetensors"
MEANS_REMEDY = "Delete its folder and type `stagewise probe` to compute it again."


class ItemMeans:
    """The mean row of some items at one stage; more are added, and what is there is never computed again.

    What is saved stays on the disk: as many items as there are take no memory.

    Args:
        folder: of the two files; what lies there is taken over if it is of these weights, and whole.
        fingerprint: of what decides the rows.
        weights: sha256 of the stage's weights; None of those it had before training.

    Attributes:
        unsaved_bytes: of the rows that lie in memory.
    """

    def __init__(self, folder: Path, fingerprint: str, weights: str | None) -> None:
        self.folder, self.fingerprint, self.weights = folder, fingerprint, weights
        self._new: dict[int, Floats] = {}
        self._saved = np.empty(0, np.int64)
        self.unsaved_bytes = 0
        try:
            facts, items, _ = _read(folder)
        except (IntegrityError, FileNotFoundError):
            return  # nothing is lost that is not computed again
        if facts["fingerprint"] == fingerprint and same_weights(facts["weights"], weights):
            self._saved = items

    def missing(self, items: Ints) -> Ints:
        """Return those of some items that are not there."""
        return items[~np.isin(items, [*self._saved.tolist(), *self._new])]

    def read(self, items: Ints) -> Floats:
        """Return the mean rows of items that are there, (N, C).

        Raises:
            IntegrityError: what was saved is damaged.
            DiskError: they cannot be written.
        """
        self.save()
        _, there, means_NC = _read(self.folder)
        return means_NC[np.searchsorted(there, items)]

    def add(self, item: int, mean_C: Floats) -> None:
        """Keep the mean row of an item."""
        self._new[item] = mean_C
        self.unsaved_bytes += mean_C.nbytes

    def save(self) -> None:
        """Write all that is there durably, unless it was.

        Raises:
            IntegrityError: what was saved is damaged.
            DiskError: the disk is full, read-only or failing.
        """
        if not self._new:
            return
        items, means_NC = np.array(list(self._new), np.int64), np.stack(list(self._new.values()))
        if len(self._saved):
            _, before, before_NC = _read(self.folder)
            items, means_NC = np.concatenate([before, items]), np.concatenate([before_NC, means_NC])
        order = np.argsort(items)
        with durable.disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        durable.sweep(self.folder)
        content = save({"items": items[order], "means": means_NC[order]})
        digest = durable.write_bytes(self.folder / TENSORS, content)
        facts = {"format": 1, "fingerprint": self.fingerprint, "weights": self.weights, "sha256": digest}
        durable.write_sealed(self.folder / FACTS, facts)
        self._saved, self.unsaved_bytes = items[order], 0
        self._new.clear()


def means_problem(folder: Path) -> str:
    """Say what is wrong with the means that a folder holds, "" if nothing, or if there are none."""
    try:
        _read(folder)
    except FileNotFoundError:
        return ""
    except IntegrityError as error:
        return str(error)
    except OSError as error:
        return f"{folder / TENSORS} cannot be read ({error.strerror}). {MEANS_REMEDY}"
    return ""


def _read(folder: Path) -> tuple[dict[str, Any], Ints, Floats]:
    """Return facts, items (N,) and means (N, C).

    Raises:
        FileNotFoundError: there are none.
        IntegrityError: they are not what was written.
    """
    path = folder / TENSORS
    if not (folder / FACTS).exists():
        raise FileNotFoundError(folder / FACTS)
    facts = checked(MeansFacts, durable.read_sealed(folder / FACTS, MEANS_REMEDY), folder / FACTS, MEANS_REMEDY)
    if not path.exists() or durable.sha256_of(path) != facts["sha256"]:
        raise IntegrityError(f"{path} is not what was written. {MEANS_REMEDY}")
    try:
        tensors = load(durable.read_bytes(path))
        items, means_NC = tensors["items"], tensors["means"]
        if (items.dtype.str, means_NC.dtype.str, means_NC.ndim, items.shape) != ("<i8", "<f4", 2, means_NC.shape[:1]):
            raise ValueError("other shapes")
    except (SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError(f"{path} is damaged ({error}). {MEANS_REMEDY}") from None
    return facts, items, means_NC
