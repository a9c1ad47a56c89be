"""Look at every audio file before training starts, and decide what happens to the bad ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stagewise.datasets.audio import Header, probe
from stagewise.datasets.bad_items import Policy, check_policy, judge, looked_at, probe_all
from stagewise.datasets.base import BadItem, Ints
from stagewise.datasets.resample import can_resample
from stagewise.errors import ConfigError


@dataclass(frozen=True)
class Rules:
    """What is expected of every file, and how samples become numbers.

    Attributes:
        sample_rate: samples per second of every item.
        bad_items: whether a bad file is an error, or how many are left out.
        resample: convert files of another rate.
        mono: average the channels of files that have several.
        mean: subtracted from every sample.
        std: divides every sample.
    """

    sample_rate: int
    bad_items: Policy
    resample: bool
    mono: bool
    mean: float
    std: float

    def __post_init__(self) -> None:
        check_policy(self.bad_items)
        if type(self.sample_rate) is not int or self.sample_rate < 1:
            raise ConfigError(f"data.sample_rate is {self.sample_rate!r}: set it to a whole number above 0, as 16000.")
        for name in ("resample", "mono"):
            if type(value := getattr(self, name)) is not bool:
                raise ConfigError(f"data.{name} is {value!r}: set it to true or false.")
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
    for item, header in enumerate(probe_all(probe, paths, looked_at("audio", len(paths)))):
        problem = header if isinstance(header, str) else rules.problem(header)
        if problem is not None:
            bad.append(BadItem(keys[item], paths[item], problem))
        elif isinstance(header, Header):
            good.append((item, header.samples, header.rate, header.size))
    judge(bad, len(paths) + len(refused), "audio", rules.bad_items)
    columns = np.array(good, dtype=np.int64).reshape(-1, 4).T
    return Scan(columns[0], columns[1], columns[2], columns[3], bad)
