"""Writing a store: rows into the current shard's buffer, whole shards to disk from one thread, the manifest.

A shard is published (fsync, rename) and then journaled: a kill at any moment loses at most what is in memory, and of
that what `keep` did not write beside the store. At most two shard buffers exist: the one being filled and the one being
written.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from stagewise import durable
from stagewise.errors import NumberError
from stagewise.stores import journal
from stagewise.stores.journal import stored_scaling
from stagewise.stores.layout import (
    FILL,
    JOURNAL,
    KEPT,
    MANIFEST,
    STORE,
    FloatArray,
    Scaling,
    StoreSpec,
    encode_shard,
    list_files,
)
from stagewise.stores.manifest import Manifest, Shard, describe_rows, read_manifest, write_manifest

__all__ = ["StoreWriter", "finished", "remove_store", "stored_scaling"]

FLOAT16_OVERFLOW = 65520.0  # the smallest number that rounds to infinity


class StoreWriter:
    """Writes the store of one stage, or goes on where an interrupted writer stopped.

    What is journaled is used again if fingerprint, spec, scaling and machine are the same; otherwise the store starts
    again. So does a finished store: ask `finished` first.

    Attributes:
        discarded: shards of an interrupted writer that were not used again.
        state: what was given to `keep` last, by a writer that this one goes on for; empty when there is nothing.

    Args:
        folder: of the stage; it exists, and nobody else writes to it.
        spec: what the store is to hold.
        fingerprint: of everything that decides what the rows are.
        scaling: of every channel; needed for int8 and only there.
        machine: that rows are computed on: rows of two machines, which differ in their last bits, are not mixed.

    Raises:
        DiskError: the disk is full, read-only or failing.
    """

    def __init__(
        self, folder: Path, spec: StoreSpec, fingerprint: str, scaling: Scaling | None = None, machine: str = ""
    ) -> None:
        if (spec.dtype == "int8") != (scaling is not None):
            raise ValueError(f"a scaling goes with int8 and only with int8, not with {spec.dtype}")
        self._folder, self._spec, self._fingerprint, self._scaling = folder, spec, fingerprint, scaling
        self._layout = spec.layout
        with durable.disk_errors(folder):
            durable.sweep(folder)
        finished_before = (folder / MANIFEST).exists()
        resumed = None if finished_before else journal.resume(folder, spec, fingerprint, machine, scaling)
        self.discarded = 0 if resumed is not None else len(durable.read_lines(folder / JOURNAL)[1:])
        if resumed is None:
            from stagewise.stores.create import create_group  # zarr-python: readers do without it

            remove_store(folder)
            create_group(folder, spec, fingerprint, scaling)
            resumed = journal.start(folder, spec, fingerprint, machine), []
        self._files, self._entries = resumed
        self._buffer = self._new_buffer()
        # Of the shard being filled.
        self._kept, self._saturated, self.state = journal.kept(folder, self._published, self._buffer)
        self._next = self.rows_done
        self._spare: npt.NDArray[Any] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._in_flight: Future[None] | None = None

    @property
    def rows_done(self) -> int:
        """The first row that would be lost now: from there on a resuming caller appends."""
        return self._published + self._kept

    @property
    def _published(self) -> int:
        return sum(entry.shard.rows for entry in self._entries)

    def append(self, rows: FloatArray) -> None:
        """Take the next rows, float32 (n, *row_shape).

        Raises:
            NumberError: a value is NaN or infinite, or too large for float16.
            DiskError: an earlier shard could not be written.
        """
        if rows.dtype != np.float32 or rows.shape[1:] != self._spec.row_shape:
            raise ValueError(f"rows are float32 (n, {self._spec.row_shape}), not {rows.dtype} {rows.shape}")
        if self._next + len(rows) > self._spec.rows:
            raise ValueError(f"{self._next + len(rows)} rows appended to a store of {self._spec.rows}")
        if self._in_flight is not None and self._in_flight.done():
            self._in_flight.result()
        done = 0
        while done < len(rows):
            # No more than a chunk at a time: what it is converted through stays in the processor's cache.
            at = self._next % self._layout.shard_rows
            take = min(len(rows) - done, self._layout.chunk_rows, self._layout.shard_rows - at)
            self._convert(rows[done : done + take], self._buffer[at : at + take])
            done, self._next = done + take, self._next + take
            if self._next % self._layout.shard_rows == 0 or self._next == self._spec.rows:
                self._hand_over()

    def keep(self, state: bytes = b"") -> None:
        """Write down all rows that were appended; those of a shard that is not full are written beside the store.

        Args:
            state: whatever else is needed to go on after them.

        Raises:
            DiskError: they or an earlier shard could not be written.
        """
        self._wait()
        rows = self._next - self._published
        if rows or state:
            journal.keep(self._folder, self._published, self._buffer[:rows], self._saturated, state)
        self._kept = rows

    def commit(self) -> Manifest:
        """Wait for the last shard, then write the manifest: from now on the store exists.

        Raises:
            DiskError: a shard or the manifest could not be written.
        """
        self._wait()
        if self._published != self._spec.rows:
            raise ValueError(f"committed with {self._published} of {self._spec.rows} rows")
        self._thread.shutdown()
        manifest = Manifest(
            fingerprint=self._fingerprint,
            rows=self._spec.rows,
            items=self._spec.items,
            dtype=self._spec.dtype,
            compress=self._spec.compress,
            row_shape=self._spec.row_shape,
            chunk_rows=self._layout.chunk_rows,
            shard_rows=self._layout.shard_rows,
            bytes=sum(list_files(self._folder / STORE).values()),
            float32_bytes=self._spec.float32_bytes,
            saturated=sum(entry.saturated for entry in self._entries),
            shards=tuple(entry.shard for entry in self._entries),
            files=self._files,
        )
        write_manifest(self._folder, manifest)
        _end_journal(self._folder)
        return manifest

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()  # a shard on its way is still published and journaled

    def _convert(self, rows: FloatArray, out: npt.NDArray[Any]) -> None:
        low, high = float(rows.min()), float(rows.max())  # NaN and infinity show in either
        if not (np.isfinite(low) and np.isfinite(high)):
            raise self._bad_number(
                ~np.isfinite(rows),
                "hold NaN or infinity. Check these items of the data; if they are sound, the frozen encoder cannot be "
                "used: Lower lr in its [[stage]]. Then type the same command again.",
            )
        if self._scaling is not None:
            self._saturated += self._scaling.quantise(rows, out)[1]
            return
        if self._spec.dtype == "float16" and max(-low, high) >= FLOAT16_OVERFLOW:
            raise self._bad_number(
                np.abs(rows) >= FLOAT16_OVERFLOW,
                "overflow float16 (largest number 65504): use dtype = 'float32' in [defaults.store], "
                "then type the same command again.",
            )
        np.copyto(out, rows, casting="same_kind")

    def _bad_number(self, bad: npt.NDArray[np.bool_], problem: str) -> NumberError:
        at = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
        rows = range(self._next + int(at[0]), self._next + int(at[-1]) + 1)
        return NumberError(f"{self._folder / STORE}: {describe_rows(rows, self._spec.offsets)} {problem}")

    def _hand_over(self) -> None:
        self._wait()
        shard, self._kept = len(self._entries), 0
        used = self._layout.chunks_in(shard) * self._layout.chunk_rows
        self._buffer[len(self._layout.shard_span(shard)) : used] = FILL[self._spec.dtype]
        self._in_flight = self._thread.submit(self._publish, shard, self._buffer[:used], self._saturated)
        self._saturated = 0
        if self._next < self._spec.rows:
            self._buffer, self._spare = (
                self._new_buffer() if self._spare is None else self._spare,
                self._buffer,
            )

    def _wait(self) -> None:
        if self._in_flight is not None:
            self._in_flight.result()

    def _publish(self, shard: int, rows: npt.NDArray[Any], saturated: int) -> None:
        """In the thread: one shard to disk, then into the journal."""
        name, span = self._layout.shard_path(shard), self._layout.shard_span(shard)
        path = self._folder / STORE / name
        with durable.disk_errors(path):
            for place in reversed(path.parents[: len(self._spec.row_shape)]):
                place.mkdir(exist_ok=True)
                durable.fsync_folder(place.parent)
        try:
            sha256 = durable.write_bytes(path, encode_shard(rows, self._layout))
        except BaseException:
            path.with_name(path.name + durable.PARTIAL).unlink(missing_ok=True)  # give a full disk its room back
            raise
        entry = journal.Entry(Shard(name, span.start, len(span), path.stat().st_size, sha256), saturated)
        journal.add(self._folder, entry)
        self._entries.append(entry)

    def _new_buffer(self) -> npt.NDArray[Any]:
        return np.empty((self._layout.shard_rows, *self._spec.row_shape), self._spec.dtype)


def finished(folder: Path, fingerprint: str) -> Manifest | None:
    """Give the manifest of a store that was committed with this fingerprint, None when there is none.

    Raises:
        IntegrityError: a manifest is there and is damaged.
    """
    if not (folder / MANIFEST).exists():
        return None
    manifest = read_manifest(folder)
    if manifest.fingerprint != fingerprint:
        return None
    _end_journal(folder)  # a kill may have come between the manifest and the journal's end
    return manifest


def remove_store(folder: Path) -> None:
    """Delete the store of a stage's folder; its commit marker goes first: no half of it looks finished.

    Raises:
        DiskError: the disk is read-only or failing.
    """
    for name in (MANIFEST, JOURNAL, KEPT, STORE):
        durable.remove(folder / name)


def _end_journal(folder: Path) -> None:
    for name in (KEPT, JOURNAL):
        if (folder / name).exists():
            with durable.disk_errors(folder / name):
                (folder / name).unlink()
                durable.fsync_folder(folder)
