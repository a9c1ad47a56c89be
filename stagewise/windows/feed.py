"""Reads the batches of the next steps in the background, and tells how long training had to wait for them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from torch import Tensor

from stagewise.windows.draw import Batch
from stagewise.windows.source import Source

AHEAD = 3  # batches in flight: memory for a few batches, and enough to hide a slow file


class Feed:
    """Batches in order, whatever the number of threads.

    Threads and not processes: decoding, copying and checksums release the interpreter's lock, nothing has to
    be sent between processes, and a killed run leaves no orphan behind.

    Attributes:
        waited: seconds that training has waited for data so far.
    """

    def __init__(self, source: Source, threads: int = 2) -> None:
        self.source, self.threads, self.waited = source, threads, 0.0

    def __call__(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        """Yield every batch with its rows as stored."""
        todo, reading = iter(batches), deque[tuple[Batch, "Future[Tensor]"]]()
        with ThreadPoolExecutor(self.threads, "stagewise-read") as pool:
            try:
                while True:
                    while len(reading) < AHEAD and (batch := next(todo, None)) is not None:
                        future = pool.submit(self.source.batch, batch)
                        reading.append((batch, future))
                    if not reading:
                        return
                    batch, future = reading.popleft()
                    begun = time.perf_counter()
                    stored = future.result()
                    self.waited += time.perf_counter() - begun
                    yield batch, stored
            finally:
                for _, future in reading:
                    future.cancel()
