"""What this machine offers a run: memory, disk, processors."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from stagewise.show import bytes_text

CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Machine:
    """What a pipeline is fitted to.

    Attributes:
        gpu: its name, None where there is none.
        memory: bytes of the GPU, or else of this machine or the container that it is.
        disk_free: bytes where runs are written.
        threads: that torch computes with.
    """

    gpu: str | None
    memory: int
    disk_free: int
    threads: int

    @property
    def words(self) -> str:
        """The machine in a line."""
        what = f"a GPU ({self.gpu})" if self.gpu else f"no GPU, {self.threads} thread{'s' * (self.threads > 1)}"
        return f"{what}, {bytes_text(self.memory)} of memory, {bytes_text(self.disk_free)} of disk free"


def this_machine() -> Machine:
    """Look at this machine; the disk is that of the current folder."""
    import torch

    free, threads = shutil.disk_usage(".").free, torch.get_num_threads()
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        return Machine(gpu.name, gpu.total_memory, free, threads)
    return Machine(None, min([psutil.virtual_memory().total, *_container_limits()]), free, threads)


def _container_limits() -> list[int]:
    limits = []
    for path in CONTAINER_LIMITS:
        with suppress(OSError, ValueError):  # it is a container's, and may say "max"
            limits.append(int(Path(path).read_text()))
    return limits
