"""The shards that a reader holds open: the first ones as memory maps, as many as a fixed room takes.

A chunk is always read with `pread` first, and its CRC32C checked. From then on its rows come out of the map, at the
speed of memory, or with `pread` (about three quarters of it). Maps alone would be faster, but what a process has
touched of them counts as its memory, and would grow to the size of the store. A disk that fails, or a file that is cut
off, while a map of it is being read kills the process instead of raising an error: the run goes on from its last
checkpoint, and the next reading of that chunk, with `pread`, says what is wrong.
"""

from __future__ import annotations

from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt

from stagewise.stores.layout import Layout
from stagewise.stores.open_shard import OpenShard

OPEN_SHARDS = 64  # files
MAPPED_BYTES = 384 << 20  # of them


class OpenShards:
    """Shards by number, opened when first asked for; of those that are not mapped, the oldest makes room.

    Threads may share it: a shard stays open for as long as somebody reads from it.
    """

    def __init__(self, store: Path, layout: Layout, offsets: npt.NDArray[np.int64]) -> None:
        self._store, self._layout, self._offsets = store, layout, offsets
        mapped = MAPPED_BYTES // layout.plain_shard_bytes(0) if layout.compress == "none" else 0
        self._mapped_shards = min(mapped, OPEN_SHARDS)
        self._mapped, self._others = dict[int, OpenShard](), dict[int, OpenShard]()
        self._lock = Lock()

    def __getitem__(self, number: int) -> OpenShard:
        shard = self._mapped.get(number) or self._others.get(number)
        return self._open(number) if shard is None else shard

    def _open(self, number: int) -> OpenShard:
        mapped = number < self._mapped_shards
        held = self._mapped if mapped else self._others
        shard = OpenShard(self._store, self._layout, self._offsets, number, mapped)
        oldest = None  # closed after the lock is let go
        with self._lock:
            if number in held:  # another thread was faster: a second one would push out a shard for nothing
                return held[number]
            if not mapped and len(held) >= OPEN_SHARDS:
                oldest = held.pop(next(iter(held)))
            held[number] = shard
        del oldest
        return shard

    def clear(self) -> None:
        """Let go of all."""
        self._mapped.clear()
        self._others.clear()
