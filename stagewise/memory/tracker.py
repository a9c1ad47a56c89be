"""Counts the bytes of every tensor alive, by category, while code runs on fake or real tensors.

torch's own MemTracker refuses a module that is called twice in a step, as happens in pieces; this counts
storages where operators return them, and knows nothing about modules.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from stagewise.memory.workspace import workspace_bytes

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
    """Tracks the storages that operators return, from their birth to their death."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
        inside = workspace_bytes(func, args)
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
