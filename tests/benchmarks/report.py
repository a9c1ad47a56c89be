"""What a benchmark found, as a table for the terminal and for RESULTS.md."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy
import torch
import zarr

RESULTS = Path(__file__).with_name("RESULTS.md")
OPENING = """# What was measured

Written by `python tests/benchmarks`, section by section. Medians of interleaved runs, with the lowest and the highest
in brackets; a ratio is formed run by run. Times are of that machine in that hour.
"""


@dataclass(frozen=True)
class Table:
    """One table of a section.

    Attributes:
        columns: headings.
        rows: cells, one text each.
        notes: sentences below the table.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        table = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
        return "\n\n".join([table, *self.notes])


def machine() -> str:
    """Name the processor, the libraries and the day."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    flags = Path("/proc/cpuinfo").read_text()
    kinds = [kind for kind in ("avx512f", "avx512_bf16", "amx_bf16") if f" {kind}" in flags]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    name = model.group(1) if model else platform.machine()
    return (
        f"{name}, {torch.get_num_threads()} threads, {' '.join(kinds)}, {device}; "
        f"python {platform.python_version()}, torch {torch.__version__}, numpy {numpy.__version__}, "
        f"zarr {zarr.__version__}; {datetime.now(UTC):%Y-%m-%d}"
    )


def write(name: str, title: str, text: str) -> None:
    """Put a section into RESULTS.md in place of an older one of that name."""
    content = RESULTS.read_text() if RESULTS.exists() else OPENING
    section = f"<!-- {name} -->\n## {title}\n\n{text}\n\n{machine()}\n<!-- end of {name} -->\n"
    pattern = re.compile(rf"<!-- {name} -->\n.*?<!-- end of {name} -->\n", re.DOTALL)
    content = pattern.sub(lambda _: section, content) if pattern.search(content) else f"{content}\n{section}"
    RESULTS.write_text(content)
