"""Memory as it is used: peaks on the device, bytes alive by category, workspaces of operators, what is given back."""

from __future__ import annotations

import ctypes
import gc
import os
import time
import weakref
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_iter

# Give memory that is free inside the process back to the system.

SECONDS = 0.5  # between two times

_last = 0.0


def release_memory(now: bool = False) -> None:
    """Let the C library return what it keeps for later; at most every half second unless `now`.

    Pieces of many different lengths leave holes in glibc's heap that nothing fits into: encoding the first two layers
    of the paper's network, 24 items grew the resident set by 303 MB, and by 21 MB with this. Elsewhere it does nothing.
    """
    global _last
    if not now and time.monotonic() - _last < SECONDS:
        return
    if now:
        gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return  # not glibc
    finally:
        _last = time.monotonic()


# Measures the peak memory of a piece of training: torch's own allocator on a GPU, its profiler on a CPU.


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


# What an operator allocates inside and frees before it returns, where that is large enough to matter.

_ITEMS = {  # arguments that have a row for every item of the batch
    torch.ops.aten.convolution.default: (0,),
    torch.ops.aten.convolution_backward.default: (0, 1),
}
_known: dict[Hashable, list[int]] = {}


@contextmanager
def in_threads(number: int) -> Iterator[None]:
    """Let so many threads share what the body's operators compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def workspace_bytes(func: Any, args: tuple[Any, ...], threads: int | None = None) -> int:
    """Return the bytes an operator needs beyond its inputs and results.

    Only convolutions on a CPU are known to need much. How much follows from the algorithm that oneDNN takes, and that
    from the processor, the number of threads and the shape: the operator is run on so few items that all threads have
    something to do, and on twice as many. What it allocates grows linearly from there.

    Args:
        func: the operator.
        args: what it is given.
        threads: that will share it; as many as do now when left out.
    """
    if func not in _ITEMS or args[0].device.type != "cpu":
        return 0
    with in_threads(threads or torch.get_num_threads()):
        return _workspace_bytes(func, args)


def _workspace_bytes(func: Any, args: tuple[Any, ...]) -> int:
    items, few = len(args[0]), torch.get_num_threads()
    sizes = _allocations(func, args, min(items, 2 * few))
    if items > 2 * few:
        fewer = _allocations(func, args, few)
        if len(fewer) == len(sizes):
            sizes = [size + (size - less) * (items - 2 * few) // few for size, less in zip(sizes, fewer, strict=True)]
        else:  # another algorithm
            sizes = _allocations(func, args, items)
    return max(accumulate(sizes), default=0) - sum(sizes)


def _allocations(func: Any, args: tuple[Any, ...], items: int) -> list[int]:
    """Run an operator on zeros of the same shapes, but for the number of items, and follow what it allocates."""
    shapes = []
    for number, value in enumerate(args):
        if isinstance(value, Tensor):
            shape = (items, *value.shape[1:]) if number in _ITEMS[func] else tuple(value.shape)
            shapes.append((shape, value.stride(), value.dtype))
        else:
            shapes.append(tuple(value) if isinstance(value, list) else value)
    key = (func, *shapes, torch.get_num_threads())
    if key not in _known:
        with _disable_current_modes(), torch.no_grad():
            given = [
                torch.empty_strided(shape[0], shape[1], dtype=shape[2]).zero_() if isinstance(value, Tensor) else value
                for value, shape in zip(args, shapes, strict=True)
            ]
            with allocations() as sizes:
                result = func(*given)  # alive until all is counted
        _known[key] = sizes
        del result
    return _known[key]


# Counts the bytes of every tensor alive, by category, while code runs on fake or real tensors.
#
# torch's own MemTracker refuses a module that is called twice in a step, as happens in pieces; this counts
# storages where operators return them, and knows nothing about modules.

CATEGORIES = ("parameters", "gradients", "optimizer", "activations", "objective", "input")

_category: ContextVar[str] = ContextVar("category", default="activations")


@contextmanager
def category(name: str) -> Iterator[None]:
    """Count what is allocated inside as `name` (one of CATEGORIES); free of cost when nothing is tracking."""
    token = _category.set(name)
    try:
        yield
    finally:
        _category.reset(token)


@dataclass(frozen=True)
class Bytes:
    """Bytes at the moment of the peak."""

    peak: int
    by_category: dict[str, int]


class MemoryTracker(TorchDispatchMode):
    """Tracks the storages that operators return, from their birth to their death.

    Args:
        threads: that will share an operator whose workspace is looked at; as many as do now when left out.
    """

    def __init__(self, threads: int | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.threads = threads
        self.alive: dict[int, tuple[int, str]] = {}  # storage number → bytes, category
        self.numbers: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()
        self.total = self.peak = self.born = 0
        self.at_peak: dict[int, tuple[int, str]] = {}

    def count(self, tensors: Iterable[Tensor], name: str) -> None:
        """Count tensors that exist already, or count them under another name."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage in self.numbers:
                number = self.numbers[storage]
                for table in (self.alive, self.at_peak):
                    if number in table:
                        table[number] = (table[number][0], name)
            else:
                self._add(storage, name)

    def bytes(self) -> Bytes:
        """Return the peak so far."""
        sums = dict.fromkeys(CATEGORIES, 0)
        for size, name in self.at_peak.values():
            sums[name] += size
        return Bytes(self.peak, sums)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_iter(result):
            if isinstance(tensor, Tensor) and tensor.untyped_storage() not in self.numbers:
                self._add(tensor.untyped_storage(), _category.get())
        inside = workspace_bytes(func, args, self.threads)
        if inside and self.total + inside > self.peak:
            self.peak = self.total + inside
            self.at_peak = {**self.alive, 0: (inside, _category.get())}
        return result

    def _add(self, storage: torch.UntypedStorage, name: str) -> None:
        self.born += 1
        number, size = self.born, storage.nbytes()
        self.numbers[storage] = number
        weakref.finalize(storage, self._remove, number).atexit = False
        self.alive[number] = (size, name)
        self.total += size
        if self.total > self.peak:
            self.peak, self.at_peak = self.total, dict(self.alive)

    def _remove(self, number: int) -> None:
        self.total -= self.alive.pop(number)[0]
