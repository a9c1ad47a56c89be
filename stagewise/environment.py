"""What a difference between two machines' numbers could come from."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from stagewise import __version__


def environment(device: torch.device) -> dict[str, Any]:
    """Return what `stage.json` records of the machine and its libraries, JSON-able."""
    return {
        "stagewise": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "cudnn": torch.backends.cudnn.version() if device.type == "cuda" else None,
        "tf32": torch.backends.cuda.matmul.allow_tf32 if device.type == "cuda" else None,
    }


def machine(device: torch.device) -> str:
    """Name what numbers are computed on: where it is the same, they have the same bits."""
    facts = environment(device)
    return f"{facts['device_name']} ({facts['device']}), {facts['cpu_capability']}, torch {facts['torch']}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
