"""Measures the peak memory of a piece of training: torch's own allocator on a GPU, its profiler on a CPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate

import psutil
import torch


@dataclass
class Peak:
    """Bytes of tensors at the peak, those that existed before included; 0 until the measurement has ended."""

    bytes: int = 0


@contextmanager
def measured(device: torch.device, existing: int) -> Iterator[Peak]:
    """Measure the most bytes that tensors take at once while the body runs.

    On a CPU every allocation of torch's allocator is followed, also those inside an operator, which a
    prediction does not see. That slows the body down: measure a step or two, not an epoch.

    Args:
        device: where the tensors are.
        existing: bytes of tensors that exist before and stay (parameters, optimizer state); unused on a GPU,
            whose allocator knows them.
    """
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device)
        return
    with allocations() as sizes:
        yield peak
    peak.bytes = existing + max(accumulate(sizes), default=0)


@contextmanager
def allocations() -> Iterator[list[int]]:
    """Follow what torch allocates on the CPU while the body runs: bytes, one after another; negative where freed."""
    # The profiler's GPU side reports on stderr that there is no GPU; nobody asked.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from torch.profiler import ProfilerActivity, profile

    sizes: list[int] = []
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        yield sizes
    # Only kineto's raw events tell allocations apart in time; `key_averages` has sums alone.
    events = profiler.profiler.kineto_results.events()
    sizes += [e.nbytes() for e in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns())]


def resident_bytes() -> int:
    """Bytes of this process that are in memory now."""
    return int(psutil.Process(os.getpid()).memory_info().rss)
