"""probe.json: what a probe found, written last; a probe is done if and only if it is there.

Beside it: probe.safetensors, the fitted probe, and predictions.safetensors, what it said of every test example.

Shape suffixes: I test items, N test examples (items, or labelled rows).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from stagewise import atomic
from stagewise.errors import IntegrityError
from stagewise.runs.shape import ProbeResult, checked

RESULT = "probe.json"
TENSORS = "probe.safetensors"
PREDICTIONS = "predictions.safetensors"
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """What a probe said of every test example, item after item.

    Attributes:
        keys: of the test items that have an example.
        rows_I: how many examples each of them has, at least one.
        row_N: which row of its item each example is; 0 where an item is one example.
        label_N, predicted_N: class it has, and class that the probe says.
        probability_N: that the probe gives to what it says, float32.
    """

    keys: Sequence[str]
    rows_I: Ints  # noqa: N815
    row_N: npt.NDArray[np.int32]  # noqa: N815
    label_N: npt.NDArray[np.int32]  # noqa: N815
    predicted_N: npt.NDArray[np.int32]  # noqa: N815
    probability_N: npt.NDArray[np.float32]  # noqa: N815

    @property
    def correct_I(self) -> Ints:  # noqa: N802
        """Right examples of each item."""
        starts = np.cumsum(self.rows_I) - self.rows_I
        return np.add.reduceat((self.label_N == self.predicted_N).astype(np.int64), starts)

    def confusion(self) -> dict[tuple[int, int], int]:
        """Count how often an example of one class is said to be of another, for the pairs that occur."""
        pairs_N2 = np.stack([self.label_N, self.predicted_N], 1)
        found, counts = np.unique(pairs_N2, axis=0, return_counts=True)
        return {(label, said): count for (label, said), count in zip(found.tolist(), counts.tolist(), strict=True)}

    def lines(self, names: Sequence[str], per_row: bool) -> Iterator[dict[str, Any]]:
        """Yield every example as a table's line.

        Args:
            names: of the classes.
            per_row: whether an item has several.
        """
        keys = (key for key, rows in zip(self.keys, self.rows_I.tolist(), strict=True) for _ in range(rows))
        columns = self.row_N, self.label_N, self.predicted_N, self.probability_N
        for key, row, label, said, share in zip(keys, *(column.tolist() for column in columns), strict=True):
            place = {"key": key, "row": row} if per_row else {"key": key}
            yield place | {"label": names[label], "predicted": names[said], "probability": round(share, 6)}

    def write(self, folder: Path) -> str:
        """Write them durably, and return the sha256 of the file."""
        keys = np.frombuffer("\n".join(self.keys).encode(), np.uint8)
        names = ("rows_I", "row_N", "label_N", "predicted_N", "probability_N")
        return atomic.write_bytes(
            folder / PREDICTIONS, save({"keys": keys, **{name[:-2]: getattr(self, name) for name in names}})
        )


def read_predictions(folder: Path, result: Mapping[str, Any]) -> Predictions | None:
    """Return what `Predictions.write` wrote, None of a result of an older version, which kept none.

    Args:
        folder: of the probe.
        result: what its probe.json says.

    Raises:
        IntegrityError: the file is not what was written.
    """
    if result.get("predictions") is None:
        return None
    path, remedy = folder / PREDICTIONS, _remedy(folder, result["name"])
    try:
        content = atomic.read_bytes(path)
        if hashlib.sha256(content).hexdigest() != result["predictions"]:
            raise IntegrityError(f"{path} is not what was written. {remedy}")
        tensors = load(content)
        keys = tensors.pop("keys").tobytes().decode().split("\n")
        found = Predictions(keys, *(tensors[name] for name in ("rows", "row", "label", "predicted", "probability")))
        examples, classes = int(found.rows_I.sum()), int(result["classes"])
        counts = {len(found.row_N), len(found.label_N), len(found.predicted_N), len(found.probability_N)}
        said = np.concatenate([found.label_N, found.predicted_N])
        if len(keys) != len(found.rows_I) or found.rows_I.min() < 1 or counts != {examples}:
            raise ValueError("its parts do not fit each other")
        if said.min() < 0 or said.max() >= classes:
            raise ValueError("a class that there is not")
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing. {remedy}") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path} is damaged ({error}). {remedy}") from None
    except OSError as error:
        if error.errno not in atomic.NO_FILE:
            raise
        raise IntegrityError(f"{path} cannot be read ({error.strerror}). {remedy}") from None
    return found


def read_probe(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the result of a probe, None if it is not done.

    Args:
        folder: of the probe.
        name: of the probe, for messages.

    Raises:
        IntegrityError: the result is not what was written.
    """
    path = folder / RESULT
    if not path.exists():
        return None
    remedy = _remedy(folder, name)
    return checked(ProbeResult, atomic.read_sealed(path, remedy), path, remedy)


def probe_problems(folder: Path, name: str) -> list[str]:
    """Say what is wrong with the files of a probe that is done."""
    problems = []
    try:
        result = read_probe(folder, name)
        if result is not None and atomic.sha256_of(folder / TENSORS) != result.get("sha256"):
            problems.append(f"{folder / TENSORS} is not what was written. {_remedy(folder, name)}")
        if result is not None:
            read_predictions(folder, result)
    except IntegrityError as error:
        problems.append(str(error))
    except OSError as error:
        problems.append(f"{error.filename} cannot be read ({error.strerror}). {_remedy(folder, name)}")
    return problems


def _remedy(folder: Path, name: str) -> str:
    return f"Delete {folder} and type `stagewise probe {name}`."
