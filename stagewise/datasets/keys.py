"""The items' keys as one block of bytes: a list of a million strings would be copied into every worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np


class Keys(Sequence[str]):
    """A read-only list of strings, kept as UTF-8 bytes and the place where each one ends."""

    def __init__(self, keys: Sequence[str]) -> None:
        encoded = [key.encode() for key in keys]
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([len(key) for key in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[item] for item in range(*index.indices(len(self)))]
        item = range(len(self))[index]
        start = self._ends[item - 1] if item else 0
        return self._bytes[start : self._ends[item]].decode()
