"""What a difference between two machines' numbers could come from."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from stagewise.libraries import VERSION

# Settings of the libraries that change which instructions, and so which last bits, a result is computed with.
VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


def environment(device: torch.device) -> dict[str, Any]:
    """Return what `stage.json` records of the machine and its libraries, JSON-able."""
    return {
        "stagewise": VERSION,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "zarr": version("zarr"),
        "numcodecs": version("numcodecs"),
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        **(_gpu() if device.type == "cuda" else {}),
    }


def machine(device: torch.device) -> str:
    """Name what numbers are computed on: where it is the same, they have the same bits."""
    facts = environment(device)
    words = [f"{facts['device_name']} ({facts['device']})", facts["cpu_capability"], f"torch {facts['torch']}"]
    words += [f"{facts['threads']} threads"] if device.type == "cpu" else [f"cuDNN {facts['cudnn']}"]
    return ", ".join(words + [f"{name}={value}" for name, value in facts["variables"].items()])


def _gpu() -> dict[str, Any]:
    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
