"""How computing threads wait for each other: awake while each has a core to itself, asleep where others use the cores.

A parallel step is done when its last thread is. OpenMP's threads spin until then: the fastest way on a quiet machine,
and by far the slowest on a busy one, where they keep the very thread that they wait for from running. libgomp, which
torch's wheels for Linux bring, sleeps after some microseconds while it has more threads than there are cores: so a few
that do nothing are added for as long as other programs are at work. No number depends on how threads wait.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import psutil
import torch

SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")  # whoever sets one has decided
SECONDS = 1.0  # between looks at the machine
ROOM = 0.25  # of a core: what others may use beyond the cores that are free
PATIENCE = 0.1  # of the time: how long a thread may be kept from running


class Usage(NamedTuple):
    """What the cores did since the machine started, in seconds.

    Attributes:
        clock: of each core.
        all: that those were busy which this process may use.
        own: that they were busy with this process.
        kept: by thread: that it wanted to run, and another ran in its place.
    """

    clock: float
    all: float
    own: float
    kept: dict[str, float]


@contextmanager
def considerate() -> Iterator[None]:
    """While the body runs, let threads wait as the machine's load suggests; where it cannot be done, do nothing."""
    if any(name in os.environ for name in SETTINGS) or (openmp := _libgomp()) is None:
        yield
        return
    done = Event()
    watcher = Thread(target=_watch, args=[openmp, done], name="load-watcher", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def shared(before: Usage, now: Usage, cores: int, threads: int) -> bool:
    """Say whether others used so much of the cores that several threads must share one."""
    others = (now.all - before.all - (now.own - before.own)) / max(1e-9, now.clock - before.clock)
    return threads > 1 and others + threads > cores + ROOM


def kept_waiting(before: Usage, now: Usage, threads: int) -> bool:
    """Say whether the threads could not run when they wanted to: work of low priority takes nothing from them."""
    kept = sum(seconds - before.kept.get(thread, 0.0) for thread, seconds in now.kept.items())
    return kept > PATIENCE * threads * (now.clock - before.clock)


def usage() -> Usage:
    """Return what the cores did so far; time that a hypervisor gave to others is busy, too."""
    process, each = psutil.Process(), psutil.cpu_times(percpu=True)
    mine, own = [each[core] for core in process.cpu_affinity() if core < len(each)], process.cpu_times()
    idle = sum(core.idle + core.iowait for core in mine)
    clock = sum(sum(core) - core.guest - core.guest_nice for core in mine)  # user and nice hold the guests'
    kept = {}
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):  # it may just have ended
            kept[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return Usage(clock / max(1, len(mine)), clock - idle, own.user + own.system, kept)


def _watch(openmp: ctypes.CDLL, done: Event) -> None:
    cores, before, asleep = len(os.sched_getaffinity(0)), usage(), Event()
    holder: Thread | None = None
    while not done.wait(SECONDS):
        now, threads = usage(), torch.get_num_threads()
        crowded = shared(before, now, cores, threads)
        if crowded and holder is None and kept_waiting(before, now, threads):
            asleep.clear()
            holder = Thread(target=_hold, args=[openmp, cores + 1, asleep], name="load-holder", daemon=True)
            holder.start()
        elif not crowded and holder is not None:
            asleep.set()
            holder = None
        before = now
    asleep.set()


def _hold(openmp: ctypes.CDLL, threads: int, end: Event) -> None:
    """Have libgomp make a team for this thread; it ends with it."""
    nothing = ctypes.cast(openmp.omp_get_num_threads, ctypes.c_void_p)
    openmp.GOMP_parallel(nothing, None, threads, 0)
    end.wait()


def _libgomp() -> ctypes.CDLL | None:
    """Return the libgomp that torch computes with; None where it is another OpenMP."""
    if "USE_OPENMP=ON" not in torch.__config__.show() or not hasattr(os, "RTLD_NOLOAD"):
        return None
    try:
        found = ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return None
    other = hasattr(found, "__kmpc_fork_call")  # LLVM's or Intel's, under libgomp's name
    return found if hasattr(found, "GOMP_parallel") and not other else None
