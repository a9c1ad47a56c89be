"""What a run writes down of its stages, its data and its probes.

Legend: I test items, N test examples (items, or labelled rows).
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load, save

from stagewise import durable
from stagewise.arrays import Ints
from stagewise.errors import IntegrityError
from stagewise.runs.folder import RunFolder
from stagewise.runs.schemas import DataFacts, ProbeResult, Record, Trained, checked

# stage.json: the commit record of a stage, written last; a stage is done if and only if it holds.
#
# What it covers: the frozen weights, the metrics and the store's manifest (which covers the store). Before it there is
# trained.json, so that weights are not trained again when encoding them fails.

RECORD = "stage.json"
TRAINED = "trained.json"  # between the end of training and the end of encoding
WEIGHTS = "encoder.safetensors"
COVERED = (WEIGHTS, "metrics.jsonl", "store.manifest.json")
ADVICE = "Delete its folder and type `stagewise run FILE` to make the stage again."


def same_weights(*hashes: str | None) -> bool:
    """Whether sha256 of weights are the same, as far as they are known: records of older versions have none."""
    return len(set(hashes) - {None}) <= 1


def commit(folder: Path, record: dict[str, Any]) -> None:
    """Write the record of a stage whose files are all there, then drop what only training needed."""
    files = {name: durable.sha256_of(folder / name) for name in COVERED if (folder / name).exists()}
    durable.write_sealed(folder / RECORD, {"format": 1, **record, "files": files})
    for name in (TRAINED, "checkpoint"):
        durable.remove(folder / name)


def mark_trained(folder: Path, fingerprint: str, identity: dict[str, Any], facts: dict[str, Any]) -> None:
    """Record that a stage's weights are final: what they depend on, and what training them cost."""
    files = {name: durable.sha256_of(folder / name) for name in COVERED[:2]}
    content = {"format": 1, "fingerprint": fingerprint, "identity": identity, **facts, "files": files}
    durable.write_sealed(folder / TRAINED, content)


def epochs_done(folder: Path) -> int | None:
    """Return how many epochs the checkpoint of a stage that is being trained, or was interrupted, has behind it.

    None where there is no checkpoint that can be read: whoever goes on from it says what is wrong.
    """
    epochs = []
    for state in folder.glob("checkpoint/?/state.json"):
        with suppress(IntegrityError, OSError, KeyError, TypeError, ValueError):
            epochs.append(int(durable.read_sealed(state, "")["progress"]["epoch"]))
    return max(epochs, default=None)


def read_trained(folder: Path, fingerprint: str | None = None) -> dict[str, Any] | None:
    """Return what `mark_trained` wrote, None if it or the files it covers are not there as they were.

    Args:
        folder: of the stage.
        fingerprint: that it must have been written under.
    """
    if not (folder / TRAINED).exists():
        return None
    try:
        content = checked(Trained, durable.read_sealed(folder / TRAINED, ""), folder / TRAINED, "")
        whole = all(durable.sha256_of(folder / name) == digest for name, digest in content["files"].items())
    except (IntegrityError, FileNotFoundError):
        return None
    except OSError as error:
        if error.errno not in durable.NO_FILE:
            raise  # no reason to give up what was trained
        return None
    return content if whole and fingerprint in (None, content.get("fingerprint")) else None


def read_record(folder: Path, with_store: bool = True) -> dict[str, Any] | None:
    """Return the record of a stage, None if it is not done.

    Args:
        folder: of the stage.
        with_store: whether its store's manifest must be what was written, too.

    Raises:
        IntegrityError: the record, the weights or the metrics are not what was written.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    record = checked(Record, durable.read_sealed(path, ADVICE), path, ADVICE)
    store = record["store"]["state"]
    for name, digest in record["files"].items():
        if name == "store.manifest.json" and (store == "dropped" or not with_store):
            continue
        again = f"Type `stagewise stage {record['name']}` to encode it again."
        advice = again if name == "store.manifest.json" else ADVICE
        if not (folder / name).exists():
            if durable.read_sealed(path, ADVICE) != record:
                return read_record(folder, with_store)  # its store was dropped in between
            raise IntegrityError(f"{folder / name} is missing. {advice}")
        try:
            same = durable.sha256_of(folder / name) == digest
        except FileNotFoundError:
            return read_record(folder, with_store)  # deleted between these lines: see what the record says now
        except OSError as error:
            if error.errno not in (*durable.NO_FILE, errno.EIO):
                raise
            raise IntegrityError(f"{folder / name} cannot be read ({error.strerror}). {advice}") from None
        if not same:
            raise IntegrityError(f"{folder / name} is not what was written. {advice}")
    return record


def mark_dropped(folder: Path, record: dict[str, Any]) -> None:
    """Record that the store is gone on purpose; called before it is deleted."""
    record["store"]["state"] = "dropped"
    durable.write_sealed(folder / RECORD, record)


# data.json: which data a run was made of, and which files were left out of it; it holds no absolute path.

DATA = "data.json"
DATA_REMEDY = "Delete it and type `stagewise run FILE` to write it again."


def write_data(run: RunFolder, facts: dict[str, Any]) -> bool:
    """Write what a run's data is, and what is known of its labels; return whether that was not there already.

    Args:
        run: the run directory.
        facts: of the data.

    Raises:
        DiskError: the disk is full, read-only or failing.
    """
    content = {"format": 1, **facts}
    with suppress(IntegrityError):  # what is damaged is written again
        if read_data(run) == content:
            return False
    durable.write_sealed(run.path / DATA, content)
    return True


def read_data(run: RunFolder) -> dict[str, Any] | None:
    """Return what `write_data` wrote, None if nothing was.

    Raises:
        IntegrityError: it is not what was written.
    """
    path = run.path / DATA
    return checked(DataFacts, durable.read_sealed(path, DATA_REMEDY), path, DATA_REMEDY) if path.exists() else None


# probe.json: what a probe found, written last; a probe is done if and only if it is there.
#
# Beside it: probe.safetensors, the fitted probe, and predictions.safetensors, what it said of every test example.

RESULT = "probe.json"
TENSORS = "probe.safetensors"
PREDICTIONS = "predictions.safetensors"


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
        return durable.write_bytes(
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
    path, advice = folder / PREDICTIONS, _advice(folder, result["name"])
    try:
        content = durable.read_bytes(path)
        if hashlib.sha256(content).hexdigest() != result["predictions"]:
            raise IntegrityError(f"{path} is not what was written. {advice}")
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
        raise IntegrityError(f"{path} is missing. {advice}") from None
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path} is damaged ({error}). {advice}") from None
    except OSError as error:
        if error.errno not in durable.NO_FILE:
            raise
        raise IntegrityError(f"{path} cannot be read ({error.strerror}). {advice}") from None
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
    advice = _advice(folder, name)
    return checked(ProbeResult, durable.read_sealed(path, advice), path, advice)


def probe_problems(folder: Path, name: str) -> list[str]:
    """Say what is wrong with the files of a probe that is done."""
    problems = []
    try:
        result = read_probe(folder, name)
        if result is not None and durable.sha256_of(folder / TENSORS) != result.get("sha256"):
            problems.append(f"{folder / TENSORS} is not what was written. {_advice(folder, name)}")
        if result is not None:
            read_predictions(folder, result)
    except IntegrityError as error:
        problems.append(str(error))
    except OSError as error:
        problems.append(f"{error.filename} cannot be read ({error.strerror}). {_advice(folder, name)}")
    return problems


def _advice(folder: Path, name: str) -> str:
    return f"Delete {folder} and type `stagewise probe {name}`."
