"""Look at every audio file before training starts, and decide what happens to the bad ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import Literal

import numpy as np

from stagewise.datasets.audio import Header, probe
from stagewise.datasets.base import BadItem, Ints
from stagewise.datasets.resample import can_resample
from stagewise.errors import ConfigError, DataError

MAX_SKIPPED = 0.01  # more bad items than this are an error even with bad_items = "skip"
SHOWN = 10


@dataclass(frozen=True)
class Rules:
    """What is expected of every file, and how samples become numbers.

    Attributes:
        sample_rate: samples per second of every item.
        bad_items: whether a bad file is an error or is left out.
        resample: convert files of another rate.
        mono: average the channels of files that have several.
        mean: subtracted from every sample.
        std: divides every sample.
    """

    sample_rate: int
    bad_items: Literal["error", "skip"]
    resample: bool
    mono: bool
    mean: float
    std: float

    def __post_init__(self) -> None:
        if self.bad_items not in ("error", "skip"):
            raise ConfigError(f'data.bad_items is {self.bad_items!r}: set it to "error" or "skip".')
        if self.sample_rate < 1:
            raise ConfigError(f"data.sample_rate is {self.sample_rate}: set it to a number above 0, as 16000.")
        if not self.std > 0:
            raise ConfigError(f"data.std is {self.std}: set it to a number above 0.")

    def problem(self, header: Header) -> str | None:
        """Say why a readable file cannot be used."""
        if header.channels > 1 and not self.mono:
            return f"{header.channels} channels where 1 is expected: set data.mono = true to average them"
        if header.rate == self.sample_rate:
            return None
        if not self.resample:
            return (
                f"{header.rate:,} Hz where {self.sample_rate:,} Hz is expected: set data.resample = true to convert it"
            )
        if not can_resample(header.rate, self.sample_rate):
            return f"{header.rate:,} Hz cannot be converted to {self.sample_rate:,} Hz in reasonable memory"
        return None


@dataclass(frozen=True)
class Scan:
    """The usable files: their places in the list that was scanned, and per file three int64 columns."""

    items: Ints
    samples: Ints
    rates: Ints
    sizes: Ints
    bad: list[BadItem]

    def lengths(self, sample_rate: int) -> Ints:
        """Return the files' lengths after resampling, rounded up as torchaudio does."""
        return -(-self.samples * sample_rate // self.rates)


def scan(keys: Sequence[str], paths: Sequence[str], rules: Rules, refused: Sequence[BadItem]) -> Scan:
    """Probe every file and apply the rules.

    Args:
        keys: the items' keys.
        paths: the items' files.
        rules: what is expected of them.
        refused: files whose very names cannot be used.

    Raises:
        DataError: there are bad files and the rules do not let them be skipped.
    """
    bad = list(refused)
    good: list[tuple[int, int, int, int]] = []
    # Decoding releases the interpreter's lock, and network disks answer many questions at once.
    with ThreadPool(min(8, os.cpu_count() or 1)) as pool:
        for item, header in enumerate(pool.imap(probe, paths, chunksize=64)):
            problem = header if isinstance(header, str) else rules.problem(header)
            if problem is not None:
                bad.append(BadItem(keys[item], paths[item], problem))
            elif isinstance(header, Header):
                good.append((item, header.samples, header.rate, header.size))
    _judge(bad, len(paths) + len(refused), rules)
    columns = np.array(good, dtype=np.int64).reshape(-1, 4).T
    return Scan(columns[0], columns[1], columns[2], columns[3], bad)


def _judge(bad: Sequence[BadItem], files: int, rules: Rules) -> None:
    if not bad or (rules.bad_items == "skip" and len(bad) <= MAX_SKIPPED * files):
        return
    lines = [f"  {item.path}: {item.reason}" for item in bad[:SHOWN]]
    if len(bad) > SHOWN:
        lines.append(f"  … and {len(bad) - SHOWN:,} more")
    remedy = (
        'Repair them or take them away, or set data.bad_items = "skip" to leave them out.'
        if rules.bad_items == "error"
        else f'That is more than the {MAX_SKIPPED:.0%} that data.bad_items = "skip" leaves out: repair them.'
    )
    head = f"{len(bad):,} of {files:,} audio files cannot be used:"
    raise DataError("\n".join([head, *lines, remedy]))
