"""Write a frozen stage's representation of the whole data set to its store, resumable at every moment.

Legend: C channels, T rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load
from torch import Tensor

from stagewise.arrays import Ints
from stagewise.encoding.stream import States, stream
from stagewise.environment import machine
from stagewise.errors import NumberError
from stagewise.modules.geometry import Geometry
from stagewise.modules.patches import means
from stagewise.modules.stage_module import StageModule
from stagewise.signals import Stop
from stagewise.stores import Manifest, Scaling, StoreSpec, StoreWriter, stored_scaling
from stagewise.training.checkpoint import serialised
from stagewise.training.feed import Source
from stagewise.training.memory_measured import release_memory

CALIBRATION_ITEMS = 32  # spread evenly over the data set; what lies outside their range is counted
CALIBRATION_ROWS = 131_072  # of all together
RUN_UP = 128  # rows before a segment, for the state of a recurrent stage to come into its range
SEGMENT = 512  # rows of a long item that are looked at in one place: its beginning may be quieter than the rest
KEPT_SECONDS = 240.0  # no more work than this is lost
Ends = npt.NDArray[np.float64]
HEADROOM = 0.25  # of a channel's range: on real speech 3 to 14 times fewer values lie outside, and zstd leaves 5 % less


@dataclass(frozen=True)
class Chain:
    """Frozen stages on top of a source: the rows of any item, streamed.

    Attributes:
        source: where rows are read.
        stages: lowest first, in evaluation mode, on `device`.
        means: give patches by their spatial mean, (C,), instead of as they are, (H, W, C).
        rounding: what a store would make of the rows, (1, C, n, …) in and out; None leaves them as they are.
    """

    source: Source
    stages: Sequence[StageModule]
    device: torch.device
    means: bool = False
    rounding: Callable[[Tensor], Tensor] | None = None

    @property
    def geometry(self) -> Geometry:
        """From the source's rows to those of the top."""
        return sum((stage.geometry for stage in self.stages), Geometry())

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Of one row at the top, channels last."""
        channels, *shape = self.stages[-1].out_shape if self.stages else self.source.row_shape
        return (channels,) if self.means else (*shape, channels)

    @property
    def channels(self) -> int:
        """C of the top."""
        return self.row_shape[-1]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Rows of every item at the top."""
        geometry = self.geometry
        rows = {length: geometry.rows(length) for length in set(self.source.lengths.tolist())}
        return np.array([rows[length] for length in self.source.lengths.tolist()], np.int64)

    def pieces(self, item: int, first: int = 0, states: States | None = None) -> Iterator[Tensor]:
        """Yield an item's rows on the device, (1, C, n) or (1, C, n, H, W), piece by piece, as `stream` does."""
        source, length = self.source, int(self.source.lengths[item])
        for piece in stream(
            lambda start, stop: source.read(item, start, stop, self.device),
            length,
            list(self.stages),
            row_shape=source.row_shape,
            first=first,
            states=states,
        ):
            rows = means(piece) if self.means and piece.ndim == 5 else piece
            yield rows if self.rounding is None else self.rounding(rows)
        release_memory()

    def segment(self, item: int, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return rows start to stop of an item, float32 (n, C) or (n, H, W, C).

        A recurrent stage's state begins a little before them, not with the item.
        """
        early = max(0, start - RUN_UP) if self.geometry.recurrent else start
        begin, end, skip = self.geometry.piece(early, stop, int(self.source.lengths[item]))
        skip += start - early
        part = replace(self, source=_Part(self.source, begin, end), rounding=None)
        return np.concatenate(list(part.rows(item)))[skip : skip + stop - start]

    def rows(self, item: int, first: int = 0, states: States | None = None) -> Iterator[npt.NDArray[np.float32]]:
        """Yield an item's rows, float32 (n, C) or (n, H, W, C), piece by piece, as `stream` does."""
        for piece in self.pieces(item, first, states):
            yield rows_of(piece)


class _Part(Source):
    """Some rows of a source's items, as if they were all."""

    def __init__(self, source: Source, begin: int, end: int) -> None:
        self.source, self.begin, self.row_shape = source, begin, source.row_shape
        self.rows_axis = source.rows_axis
        self.lengths = np.full(len(source.lengths), end - begin, np.int64)

    def gather(self, items: Ints, starts: Ints, span: int) -> Tensor:
        return self.source.gather(items, starts + self.begin, span)

    def finish(self, stored: Tensor) -> Tensor:
        return self.source.finish(stored)


def rows_of(piece: Tensor) -> npt.NDArray[np.float32]:
    """Turn a piece of one item, (1, C, n, …), into rows as they are stored: float32 (n, …, C)."""
    return piece[0].movedim(0, -1).float().contiguous().cpu().numpy()


@dataclass(frozen=True)
class Encoded:
    """What encoding cost and gave, and how well int8 keeps the channels, where it was found out now."""

    manifest: Manifest
    seconds: float
    forward_seconds: float
    calibration: Calibration | None = None


@dataclass(frozen=True)
class Calibration:
    """The range of every channel, and how exactly int8 keeps what is in it.

    Attributes:
        scaling: of every channel.
        sqnr_C: decibels from the variance of a channel to that of its rounding; infinite for a constant one.
    """

    scaling: Scaling
    sqnr_C: npt.NDArray[np.float64]  # noqa: N815

    @property
    def worst(self) -> tuple[int, float]:
        """The channel that is kept least exactly, and its decibels."""
        return int(self.sqnr_C.argmin()), float(self.sqnr_C.min())


def encode(
    chain: Chain,
    folder: Path,
    dtype: Literal["float32", "float16", "int8"],
    compress: Literal["none", "zstd"],
    fingerprint: str,
    stop: Stop,
    report: Callable[..., None],
) -> Encoded:
    """Write, or go on writing, the store of the top of a chain.

    Args:
        chain: the frozen stages and where their input is.
        folder: of the stage.
        dtype: of the store.
        compress: of the store.
        fingerprint: of everything that decides what the rows are.
        stop: asked after every piece.
        report: told ("encode", rows=…, of=…) after every piece.

    Raises:
        NumberError: a value is NaN or infinite, or overflows float16.
        DiskError: the disk is full or failing; what is journaled stays.
        Interrupted: a signal asked to stop; what is journaled stays.
    """
    begun, forward = time.perf_counter(), 0.0
    spec, here = StoreSpec(chain.lengths, chain.row_shape, dtype, compress), machine(chain.device)
    scaling, calibration = None, None
    if dtype == "int8":
        scaling = stored_scaling(folder, fingerprint, here)
        if scaling is None:
            calibration = measure(chain, stop)
            scaling = calibration.scaling
    with StoreWriter(folder, spec, fingerprint, scaling, here) as writer:
        if writer.discarded:
            report(
                "note",
                text=f"{writer.discarded} stored shards are computed again: they were made on another machine (see "
                "`stagewise doctor`; OMP_NUM_THREADS counts), or with other settings.",
            )
        row, kept = writer.rows_done, time.monotonic()
        item = int(np.searchsorted(spec.offsets, row, side="right")) - 1
        states = _of_item(item, writer.state, chain.device)
        while row < spec.rows:
            pieces = chain.rows(item, row - int(spec.offsets[item]), states)
            while True:
                clock = time.perf_counter()
                rows = next(pieces, None)
                forward += time.perf_counter() - clock
                if rows is None:
                    break
                if len(rows):
                    writer.append(rows)
                    row += len(rows)
                report("encode", rows=row, of=spec.rows)
                if stop.signal is not None or time.monotonic() - kept > KEPT_SECONDS:
                    # A shard may take an hour, and so may an item.
                    writer.keep(serialised({f"{item}.{block}.{at}": state for (block, at), state in states.items()}))
                    kept = time.monotonic()
                stop.check(f"{writer.rows_done} of {spec.rows} rows are stored.")
            item, states = item + 1, {}
        manifest = writer.commit()
    return Encoded(manifest, time.perf_counter() - begun, forward, calibration)


def _of_item(item: int, kept: bytes, device: torch.device) -> States:
    """Return the states that were kept while an item was encoded."""
    states: States = {}
    for name, state in (load(kept) if kept else {}).items():
        of, block, row = map(int, name.split("."))
        if of == item:
            states[block, row] = state.to(device)
    return states


def calibrate(chain: Chain, stop: Stop) -> Scaling:
    """Find the range of every channel, as `measure` does."""
    return measure(chain, stop).scaling


def measure(chain: Chain, stop: Stop) -> Calibration:
    """Find the range of every channel over a sample that is the same in every run, and what int8 keeps of it.

    Raises:
        NumberError: a value is NaN or infinite.
        Interrupted: a signal asked to stop.
    """
    low_C = np.full(chain.channels, np.inf, np.float32)
    high_C = np.full(chain.channels, -np.inf, np.float32)
    count, sum_C, squares_C = 0, np.zeros(chain.channels), np.zeros(chain.channels)
    for item, rows in _sample(chain):
        rows_NC = rows.reshape(-1, chain.channels)
        if not np.isfinite(rows_NC).all():
            raise NumberError(
                f"rows of item {item} hold NaN or infinity. Check this item of the data; if it is sound, the "
                "frozen encoder cannot be used: Lower lr in its [[stage]]. Then type the same command again."
            )
        low_C, high_C = np.minimum(low_C, rows_NC.min(0)), np.maximum(high_C, rows_NC.max(0))
        count, sum_C = count + len(rows_NC), sum_C + rows_NC.sum(0, dtype=np.float64)
        squares_C += np.square(rows_NC, dtype=np.float64).sum(0)
        stop.check("nothing of this store was written yet.")
    if not count:
        low_C, high_C = np.zeros_like(low_C), np.zeros_like(high_C)
    scaling = Scaling.fit(*_with_room(low_C.astype(np.float64), high_C.astype(np.float64)))
    variance_C = np.maximum(0, squares_C - sum_C**2 / max(1, count)) / max(1, count)
    noise_C = scaling.scale_C.astype(np.float64) ** 2 / 12  # of rounding to the nearest step
    alive_C = high_C > low_C
    ratio_C = np.divide(variance_C, noise_C, out=np.full(chain.channels, np.inf), where=alive_C)
    return Calibration(scaling, 10 * np.log10(np.maximum(ratio_C, np.finfo(np.float64).tiny)))


def _sample(chain: Chain) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield rows from everywhere in the data set: all of short items, segments spread over each long one."""
    lengths = chain.lengths
    present = np.flatnonzero(lengths)
    chosen = present[np.linspace(0, len(present) - 1, min(CALIBRATION_ITEMS, len(present))).astype(int)].tolist()
    for item in chosen:
        length, most = int(lengths[item]), CALIBRATION_ROWS // len(chosen)
        if length <= most:
            yield from ((item, rows) for rows in chain.rows(item))
            continue
        for start in np.linspace(0, length - SEGMENT, most // SEGMENT).astype(int).tolist():
            yield item, chain.segment(item, start, start + SEGMENT)


def _with_room(low_C: Ends, high_C: Ends) -> tuple[Ends, Ends]:
    """Widen ranges for what other items hold, never across zero: a ReLU gives nothing below it."""
    if not (np.isfinite(low_C).all() and np.isfinite(high_C).all()):
        return low_C, high_C
    room_C = HEADROOM * (high_C - low_C) / np.where((low_C == 0) | (high_C == 0), 1, 2)
    below_C = np.where(low_C < 0, low_C - room_C, np.maximum(0, low_C - room_C))
    above_C = np.where(high_C > 0, high_C + room_C, np.minimum(0, high_C + room_C))
    return below_C, above_C
