"""means.json and means.safetensors: the mean row of items at one stage, which all probes of items read.

Shape suffixes: N items, C channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from stagewise import atomic
from stagewise.errors import IntegrityError
from stagewise.runs.record import same_weights
from stagewise.runs.shape import MeansFacts, checked

FACTS, TENSORS = "means.json", "means.safetensors"
REMEDY = "Delete its folder and type `stagewise probe` to compute it again."
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


class ItemMeans:
    """The mean row of some items at one stage; more are added, and what is there is never computed again.

    Args:
        folder: of the two files; what lies there is taken over if it is of these weights, and whole.
        fingerprint: of what decides the rows.
        weights: sha256 of the stage's weights; None of those it had before training.
    """

    def __init__(self, folder: Path, fingerprint: str, weights: str | None) -> None:
        self.folder, self.fingerprint, self.weights = folder, fingerprint, weights
        self._means: dict[int, Floats] = {}
        self._saved = True
        try:
            facts, items, means_NC = _read(folder)
        except (IntegrityError, FileNotFoundError):
            return  # nothing is lost that is not computed again
        if facts["fingerprint"] == fingerprint and same_weights(facts["weights"], weights):
            self._means = dict(zip(items.tolist(), means_NC, strict=True))

    def __contains__(self, item: int) -> bool:
        return item in self._means

    def __getitem__(self, item: int) -> Floats:
        return self._means[item]

    def add(self, item: int, mean_C: Floats) -> None:
        """Keep the mean row of an item."""
        self._means[item], self._saved = mean_C, False

    def save(self) -> None:
        """Write all that is there durably, unless it was.

        Raises:
            DiskError: the disk is full, read-only or failing.
        """
        if self._saved:
            return
        items = np.array(sorted(self._means), np.int64)
        with atomic.disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        atomic.sweep(self.folder)
        means_NC = np.stack([self._means[item] for item in items.tolist()])
        digest = atomic.write_bytes(self.folder / TENSORS, save({"items": items, "means": means_NC}))
        facts = {"format": 1, "fingerprint": self.fingerprint, "weights": self.weights, "sha256": digest}
        atomic.write_sealed(self.folder / FACTS, facts)
        self._saved = True


def means_problem(folder: Path) -> str:
    """Say what is wrong with the means that a folder holds, "" if nothing, or if there are none."""
    try:
        _read(folder)
    except FileNotFoundError:
        return ""
    except IntegrityError as error:
        return str(error)
    except OSError as error:
        return f"{folder / TENSORS} cannot be read ({error.strerror}). {REMEDY}"
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
    facts = checked(MeansFacts, atomic.read_sealed(folder / FACTS, REMEDY), folder / FACTS, REMEDY)
    if not path.exists() or atomic.sha256_of(path) != facts["sha256"]:
        raise IntegrityError(f"{path} is not what was written. {REMEDY}")
    try:
        tensors = load(atomic.read_bytes(path))
        items, means_NC = tensors["items"], tensors["means"]
        if (items.dtype.str, means_NC.dtype.str, means_NC.ndim, items.shape) != ("<i8", "<f4", 2, means_NC.shape[:1]):
            raise ValueError("other shapes")
    except (SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError(f"{path} is damaged ({error}). {REMEDY}") from None
    return facts, items, means_NC
