"""The journal of a store being written: what it is to become, then a line for every published shard."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stagewise import durable
from stagewise.stores.layout import (
    FORMAT,
    JOURNAL,
    KEPT,
    STORE,
    Scaling,
    StoreSpec,
    list_files,
    read_offsets,
    read_scaling,
    small_files,
)
from stagewise.stores.manifest import Shard


@dataclass(frozen=True)
class Entry:
    """One published shard, and how many of its values saturated."""

    shard: Shard
    saturated: int


def start(folder: Path, spec: StoreSpec, fingerprint: str, machine: str) -> dict[str, str]:
    """Begin the journal of a newly created group and return the sha256 of its small files."""
    store = folder / STORE
    files = {name: durable.sha256_of(store / name) for name in sorted(small_files(spec.dtype))}
    _write(folder, [{**_intention(spec, fingerprint, machine), "files": files}])
    return files


def add(folder: Path, entry: Entry) -> None:
    """Record a shard that is published: from now on it survives."""
    durable.append_line(folder / JOURNAL, _line(entry))


def keep(folder: Path, first_row: int, rows: npt.NDArray[Any], saturated: int, state: bytes) -> None:
    """Write down the first rows of a shard, in the stored dtype, and a state: they survive until it is published."""
    body = rows.reshape(-1).view(np.uint8).data
    digest = hashlib.sha256(state)
    digest.update(body)
    facts = {"first_row": first_row, "rows": len(rows), "saturated": saturated, "state": len(state)}
    header = json.dumps(facts | {"sha256": digest.hexdigest()}) + "\n"
    durable.write_bytes(folder / KEPT, (header.encode(), state, body))


def kept(folder: Path, first_row: int, buffer: npt.NDArray[Any]) -> tuple[int, int, bytes]:
    """Read the rows that `keep` wrote of the shard that begins at a row into its buffer.

    Returns:
        how many there are, how many of their values saturated, and the state; 0, 0 and none when there is nothing to
        use. Of another shard, the state alone is returned.
    """
    try:
        header, body = durable.read_bytes(folder / KEPT).split(b"\n", 1)
        facts = json.loads(header)
        rows, saturated, size = int(facts["rows"]), int(facts["saturated"]), int(facts.get("state", 0))
        if facts["sha256"] != hashlib.sha256(body).hexdigest():
            return 0, 0, b""
        if facts["first_row"] != first_row:
            return 0, 0, body[:size]
        buffer[:rows] = np.frombuffer(body[size:], buffer.dtype).reshape(rows, *buffer.shape[1:])
    except (ValueError, TypeError, KeyError, AttributeError, OSError):
        return 0, 0, b""  # none, or damaged beyond use: starting over loses time, never data
    return rows, saturated, body[:size]


def resume(
    folder: Path, spec: StoreSpec, fingerprint: str, machine: str, scaling: Scaling | None
) -> tuple[dict[str, str], list[Entry]] | None:
    """Find what an interrupted writer left that is still good: the small files' sha256, the first shards.

    Whatever else lies in `store.zarr` is deleted. None when nothing can be used: another fingerprint, spec,
    machine or scaling, or a group that was not completely created.

    Raises:
        DiskError: the disk is full, read-only or failing.
    """
    store = folder / STORE
    lines = durable.read_lines(folder / JOURNAL)
    sizes = list_files(store)
    try:
        header, *rest = lines
        files = dict(header["files"])
        known = header.get("machine", machine)  # none in journals of before
        wanted = {**_intention(spec, fingerprint, known), "files": files}
        if known != machine:
            return None
        if {**header, "machine": known} != wanted or set(files) != small_files(spec.dtype):
            return None
        if any(durable.sha256_of(store / name) != digest for name, digest in files.items()):
            return None
        if not np.array_equal(read_offsets(store, spec.items, spec.rows), spec.offsets):
            return None
        if scaling is not None and not _same(scaling, read_scaling(store, spec.row_shape[-1])):
            return None
    except (ValueError, TypeError, KeyError, AttributeError, OSError):
        return None  # damaged beyond use: starting over loses time, never data
    entries = _good_entries(rest, sizes, spec)
    with durable.disk_errors(store):
        for name in sizes.keys() - files.keys() - {entry.shard.path for entry in entries}:
            (store / name).unlink()
    _write(folder, [header, *map(_line, entries)])  # without a torn last line, which the next would prolong
    return files, entries


def stored_scaling(folder: Path, fingerprint: str, machine: str = "") -> Scaling | None:
    """Give the scaling of an unfinished int8 store: a resumed encoding need not measure it again."""
    try:
        header = durable.read_lines(folder / JOURNAL)[0]
        if (header["format"], header["layout"]["dtype"]) != (FORMAT, "int8"):
            return None
        if (header["fingerprint"], header.get("machine", machine)) != (fingerprint, machine):
            return None
        return read_scaling(folder / STORE, header["layout"]["row_shape"][-1])
    except (IndexError, ValueError, TypeError, KeyError, OSError):
        return None


def _intention(spec: StoreSpec, fingerprint: str, machine: str) -> dict[str, Any]:
    layout = {**asdict(spec.layout), "row_shape": list(spec.row_shape)}
    return {"format": FORMAT, "fingerprint": fingerprint, "machine": machine, "items": spec.items, "layout": layout}


def _write(folder: Path, lines: list[Any]) -> None:
    durable.write_bytes(folder / JOURNAL, "".join(json.dumps(line) + "\n" for line in lines).encode())


def _line(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry.shard), "saturated": entry.saturated}


def _same(one: Scaling, other: Scaling) -> bool:
    return np.array_equal(one.scale_C, other.scale_C) and np.array_equal(one.offset_C, other.offset_C)


def _good_entries(lines: list[Any], sizes: dict[str, int], spec: StoreSpec) -> list[Entry]:
    entries: list[Entry] = []
    for line in lines:
        try:
            shard = Shard(**{key: value for key, value in line.items() if key != "saturated"})
            saturated = int(line["saturated"])
        except (ValueError, TypeError, KeyError, AttributeError):
            break
        span = spec.layout.shard_span(len(entries))
        place = spec.layout.shard_path(len(entries)), span.start, len(span)
        if (shard.path, shard.first_row, shard.rows) != place or sizes.get(shard.path) != shard.bytes:
            break
        entries.append(Entry(shard, saturated))
    return entries
