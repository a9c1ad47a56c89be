"""Times of several ways to do the same work, measured in turn, so that a busy moment hits all of them."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """Seconds of every run of one way."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        return f"{show(self.median)} ({show(min(self.seconds))} – {show(max(self.seconds))})"


@dataclass(frozen=True)
class Ratio:
    """One way's time over another's, run by run."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def __str__(self) -> str:
        low, middle, high = min(self.values), self.median, max(self.values)
        digits = 0 if middle >= 100 else 1 if middle >= 10 else 2 if middle >= 0.1 else 4
        return f"{middle:.{digits}f} ({low:.{digits}f} – {high:.{digits}f})"


def interleaved(
    ways: Mapping[str, Callable[[], object]], runs: int = 7, warm: int = 2, primed: bool = False
) -> dict[str, Times]:
    """Run every way in turn, `warm` times unmeasured and `runs` times measured.

    Primed, every measured run follows an unmeasured one of the same way, as one training step follows another.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(-warm, runs):
        for name, way in ways.items():
            gc.collect()
            if primed and run >= 0:
                way()
            begun = time.perf_counter()
            way()
            if run >= 0:
                seconds[name].append(time.perf_counter() - begun)
    return {name: Times(tuple(values)) for name, values in seconds.items()}


def ratio(over: Times | list[Times], under: Times | list[Times]) -> Ratio:
    """Divide run by run; lists are added up first."""
    tops = [over] if isinstance(over, Times) else over
    bottoms = [under] if isinstance(under, Times) else under
    runs = range(len(tops[0].seconds))
    return Ratio(tuple(sum(t.seconds[i] for t in tops) / sum(t.seconds[i] for t in bottoms) for i in runs))


def total(times: list[Times]) -> Times:
    """Add up the runs of several ways."""
    return Times(tuple(map(sum, zip(*(t.seconds for t in times), strict=True))))


def show(seconds: float) -> str:
    """Write a time with three digits."""
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if seconds >= scale or unit == "µs":
            return f"{seconds / scale:.3g} {unit}"
    raise AssertionError
