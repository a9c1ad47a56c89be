"""The rows of any files after a run's frozen stages, item by item and piece by piece, in bounded memory.

Shape suffixes: C channels, n rows of a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stagewise.datasets.base import Dataset
from stagewise.embedding.given_arrays import Held
from stagewise.embedding.given_audio import GivenAudio
from stagewise.embedding.given_files import Report
from stagewise.embedding.given_images import GivenImages, trained_at
from stagewise.embedding.given_own import kind_of, own_array, own_files
from stagewise.encoding.encode import Chain
from stagewise.errors import ConfigError, NumberError
from stagewise.runs.frozen import FrozenEncoder
from stagewise.windows.source import RawSource

Floats = npt.NDArray[np.float32]
Pool = Literal["mean"]


@dataclass(frozen=True)
class Embedding:
    """What is to be computed, before anything is.

    Attributes:
        keys: of the items, in order: paths as they were named.
        rows: of every item, int64; 1 where they are pooled.
        channels: C.
        stage: whose rows they are.
        pool: "mean" gives the mean of an item's rows.
        chain: the frozen stages on top of the files.
        left_out: how many files are.
        grids: rows and columns of every image's patches, int64 (items, 2); None of audio, and of means.
        trained_at: of what size the images were that the stages were trained on; "" of audio.
    """

    keys: Sequence[str]
    rows: npt.NDArray[np.int64]
    channels: int
    stage: str
    pool: Pool | None
    chain: Chain
    left_out: int
    grids: npt.NDArray[np.int64] | None
    trained_at: str

    @property
    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """What is written beside the rows z.

        offsets: where each item's rows begin, and where the last ones end, int64 (items + 1,).
        keys: as UTF-8 bytes, one a line: an array of strings would give every one the room of the longest.
        grids: of images, int64 (items, 2).
        """
        offsets = np.concatenate([[0], np.cumsum(self.rows)])
        keys = np.frombuffer("\n".join(self.keys).encode(), np.uint8)
        return {"offsets": offsets, "keys": keys} | ({} if self.grids is None else {"grids": self.grids})

    def pieces(self, item: int) -> Iterator[Floats]:
        """Yield the rows of an item, float32 (n, C), piece by piece.

        Raises:
            DataError: its file cannot be read.
            NumberError: a row is NaN or infinite.
        """
        if self.pool is None:
            yield from self._checked(item)
            return
        total_C, count = np.zeros(self.channels), 0
        for piece_nC in self._checked(item):
            total_C, count = total_C + piece_nC.sum(axis=0, dtype=np.float64), count + len(piece_nC)
        yield (total_C / count).astype(np.float32)[None]

    def whole(self, item: int) -> Floats:
        """Return the rows of an item, float32 (rows, C), or (C,) where they are pooled; raises what `pieces` does."""
        rows_nC = np.concatenate(list(self.pieces(item)))
        return rows_nC if self.pool is None else rows_nC[0]

    def _checked(self, item: int) -> Iterator[Floats]:
        for piece_nC in self.chain.rows(item):
            if not np.isfinite(piece_nC).all():
                raise NumberError(
                    f"{self.keys[item]}: stage {self.stage} gives NaN or infinity. Listen to it, or look at it; leave "
                    "it out if it is no input of this kind."
                )
            yield piece_nC


def embedding(
    encoder: FrozenEncoder,
    paths: Sequence[str | Path],
    pool: Pool | None = None,
    report: Report = lambda *_, **__: None,
    skip: bool = False,
) -> Embedding:
    """Prepare the rows of files: look at all of them, and compute nothing yet.

    Args:
        encoder: the frozen stages, on the device to compute on.
        paths: files, and folders of them.
        pool: "mean" for one row an item.
        report: told how many files were looked at, what is left out, and what is converted.
        skip: leave out files that cannot be used.

    Raises:
        ConfigError: there are no paths, or the run's data set does not say how a file is read.
        DataError: files cannot be used.
    """
    return _embedding(encoder, _files(encoder, paths, report, skip), pool)


def embed_array(encoder: FrozenEncoder, given: Held, pool: Pool | None, sample_rate: object) -> Floats:
    """Return the rows of what a program holds, (rows, C), where a class of one's own says how it is read.

    Raises:
        ConfigError: the class is not there, or does not say how an array is read.
        InputError: it cannot be used.
        NumberError: a row is NaN or infinite.
    """
    return _embedding(encoder, own_array(given, encoder.facts, _short(encoder), sample_rate), pool).whole(0)


def _embedding(encoder: FrozenEncoder, dataset: Dataset, pool: Pool | None) -> Embedding:
    if pool not in (None, "mean"):
        raise ConfigError(f'pool is {pool!r}: set it to "mean", or leave it out for one row after another.')
    stages: Any = list(encoder.stages)
    chain = Chain(RawSource(dataset), stages, encoder.device, means=dataset.grids is not None)
    rows = np.ones_like(chain.lengths) if pool else chain.lengths
    size = trained_at(encoder.facts["reads"])
    grids = None if pool else dataset.grids
    return Embedding(dataset.keys, rows, chain.channels, encoder.name, pool, chain, len(dataset.bad), grids, size)


def _short(encoder: FrozenEncoder) -> Callable[[int], str | None]:
    def short(samples: int) -> str | None:
        if encoder.geometry.rows(samples):
            return None
        field = encoder.geometry.receptive_field
        return f"its {samples:,} samples give no row of stage {encoder.name}, one of which sees {field:,}"

    return short


def _files(encoder: FrozenEncoder, paths: Sequence[str | Path], report: Report, skip: bool) -> Dataset:
    facts, short = encoder.facts, _short(encoder)
    reads = facts["reads"]
    kind = kind_of(reads)
    if kind == "audio":
        return GivenAudio(paths, facts, short, report, skip)
    if kind == "image":
        return GivenImages(paths, facts, report, skip)
    if not reads["target"]:
        raise ConfigError("this export is older than this way of reading files: export it again, or give it tensors.")
    return own_files(paths, facts, short, report, skip)
