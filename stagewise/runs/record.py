"""stage.json: the commit record of a stage, written last; a stage is done if and only if it holds.

What it covers: the frozen weights, the metrics and the store's manifest (which covers the store). Before it there is
trained.json, so that weights are not trained again when encoding them fails.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path
from typing import Any

from stagewise import atomic
from stagewise.errors import IntegrityError
from stagewise.runs.shape import Record, Trained, checked

RECORD = "stage.json"
TRAINED = "trained.json"  # between the end of training and the end of encoding
WEIGHTS = "encoder.safetensors"
COVERED = (WEIGHTS, "metrics.jsonl", "store.manifest.json")
REMEDY = "Delete its folder and type `stagewise run FILE` to make the stage again."


def same_weights(*hashes: str | None) -> bool:
    """Whether sha256 of weights are the same, as far as they are known: records of older versions have none."""
    return len(set(hashes) - {None}) <= 1


def commit(folder: Path, record: dict[str, Any]) -> None:
    """Write the record of a stage whose files are all there, then drop what only training needed."""
    files = {name: atomic.sha256_of(folder / name) for name in COVERED if (folder / name).exists()}
    atomic.write_sealed(folder / RECORD, {"format": 1, **record, "files": files})
    for name in (TRAINED, "checkpoint"):
        atomic.remove(folder / name)


def mark_trained(folder: Path, fingerprint: str, identity: dict[str, Any], facts: dict[str, Any]) -> None:
    """Record that a stage's weights are final: what they depend on, and what training them cost."""
    files = {name: atomic.sha256_of(folder / name) for name in COVERED[:2]}
    content = {"format": 1, "fingerprint": fingerprint, "identity": identity, **facts, "files": files}
    atomic.write_sealed(folder / TRAINED, content)


def epochs_done(folder: Path) -> int | None:
    """Return how many epochs the checkpoint of a stage that is being trained, or was interrupted, has behind it.

    None where there is no checkpoint that can be read: whoever goes on from it says what is wrong.
    """
    epochs = []
    for state in folder.glob("checkpoint/?/state.json"):
        with suppress(IntegrityError, OSError, KeyError, TypeError, ValueError):
            epochs.append(int(atomic.read_sealed(state, "")["progress"]["epoch"]))
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
        content = checked(Trained, atomic.read_sealed(folder / TRAINED, ""), folder / TRAINED, "")
        whole = all(atomic.sha256_of(folder / name) == digest for name, digest in content["files"].items())
    except (IntegrityError, FileNotFoundError):
        return None
    except OSError as error:
        if error.errno not in atomic.NO_FILE:
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
    record = checked(Record, atomic.read_sealed(path, REMEDY), path, REMEDY)
    store = record["store"]["state"]
    for name, digest in record["files"].items():
        if name == "store.manifest.json" and (store == "dropped" or not with_store):
            continue
        again = f"Type `stagewise stage {record['name']}` to encode it again."
        remedy = again if name == "store.manifest.json" else REMEDY
        if not (folder / name).exists():
            if atomic.read_sealed(path, REMEDY) != record:
                return read_record(folder, with_store)  # its store was dropped in between
            raise IntegrityError(f"{folder / name} is missing. {remedy}")
        try:
            same = atomic.sha256_of(folder / name) == digest
        except FileNotFoundError:
            return read_record(folder, with_store)  # deleted between these lines: see what the record says now
        except OSError as error:
            if error.errno not in (*atomic.NO_FILE, errno.EIO):
                raise
            raise IntegrityError(f"{folder / name} cannot be read ({error.strerror}). {remedy}") from None
        if not same:
            raise IntegrityError(f"{folder / name} is not what was written. {remedy}")
    return record


def mark_dropped(folder: Path, record: dict[str, Any]) -> None:
    """Record that the store is gone on purpose; called before it is deleted."""
    record["store"]["state"] = "dropped"
    atomic.write_sealed(folder / RECORD, record)
