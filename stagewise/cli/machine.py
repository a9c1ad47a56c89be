"""What `doctor` knows about this machine."""

from __future__ import annotations

import platform
import shutil
from typing import Any

import psutil

from stagewise.errors import ConfigError
from stagewise.libraries import LIBRARIES, VERSION, check, installed_version
from stagewise.registry import DATASETS, MODULES, OBJECTIVES
from stagewise.text import bytes_text, counted


def machine_facts() -> dict[str, Any]:
    """Return versions, processor, memory, disk and GPU, JSON-able; "problems" says which libraries do not load."""
    checked = check()
    return {
        "stagewise": VERSION,
        "python": platform.python_version(),
        "system": platform.platform(),
        **(_of_torch() if checked[LIBRARIES[0]] is None else {}),
        "memory": bytes_text(psutil.virtual_memory().total),
        "disk free": bytes_text(shutil.disk_usage(".").free),
        **{
            library.package: (installed_version(library.package) or "not installed")
            + (", does not load" if problem else "")
            for library, problem in checked.items()
        },
        "short names": _installed_names(),
        "problems": [problem for problem in checked.values() if problem],
    }


def _of_torch() -> dict[str, str]:
    """Say what torch sees of this machine."""
    import torch

    from stagewise.environment import environment

    made = environment(torch.device("cpu"))
    gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return {
        "cpu": f"{made['device_name']}, {counted(made['threads'], 'thread')}, {made['cpu_capability']}",
        "variables": ", ".join(f"{name}={value}" for name, value in made["variables"].items()) or "none",
        "bfloat16": "fast" if torch.cpu._is_amx_tile_supported() or gpus else "not faster than float32 here",
        "gpu": ", ".join(f"{g.name} ({bytes_text(g.total_memory)})" for g in gpus) or "none",
    }


def _installed_names() -> str:
    """Write the short names that installed packages give, and which packages."""
    try:
        found = [
            f"{name} of {package}"
            for names in (MODULES, OBJECTIVES, DATASETS)
            for name, given in names.installed().items()
            for _, package in given
        ]
    except ConfigError as error:
        return str(error)
    return ", ".join(found) or "only those built in"
