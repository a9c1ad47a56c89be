"""What a pipeline file will say, before its words: for what this machine offers."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from stagewise.datasets.base import BadItem
from stagewise.text import bytes_text

# What this machine offers a run: memory, disk, processors.

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


# What a pipeline file will say, before its words: tables of keys, values and the reasons for them.

WIDTH = 120
BARE = re.compile(r"[A-Za-z0-9_-]+")  # a key of TOML that needs no quotes
Line = tuple[str, object, str]  # key, value, why


@dataclass(frozen=True)
class Recipe:
    """What suits a folder and a machine.

    Attributes:
        data: lines of the data table.
        objective: lines of the objective's defaults.
        batch_size: items of a step.
        learning_rate: of Adam.
        why_rate: why it is that.
        falls: whether it rises and then falls, over the whole training.
        store: lines of the stores' defaults.
        stages: lines of every stage.
        labels: what probes predict of an item, and how many items every class has.
        notes: what lies beside the items and was not taken.
        items: that can be used.
        images: whether items are images.
        short: of the items, those shorter than a training window.
        counted: items whose classes are counted, those for training where others are for testing; all when left out.
    """

    data: list[Line]
    objective: list[Line]
    batch_size: int
    learning_rate: float
    why_rate: str
    store: list[Line]
    stages: list[list[Line]]
    labels: Mapping[str, Counter[str]]
    notes: Sequence[str]
    items: int
    images: bool
    short: int = 0
    counted: int | None = None
    falls: bool = False

    def without(self, refused: Mapping[str, str]) -> Recipe:
        """Return it without some labels, and with the reasons among the notes."""
        return replace(
            self,
            data=[line for each in self.data if (line := _without(each, refused))],
            labels={label: classes for label, classes in self.labels.items() if label not in refused},
            notes=[*self.notes, *refused.values()],
        )

    @property
    def phones(self) -> bool:
        """Whether there are phone labels."""
        return any(key == "phones" for key, _, _ in self.data)


def _without(line: Line, refused: Collection[str]) -> Line | None:
    """Return a line of the data table without labels that are refused; None if nothing is left of it."""
    key, value, why = line
    if key == "phones" and key in refused:
        return None
    if key == "labels" and isinstance(value, Mapping):
        kept = {label: source for label, source in value.items() if label not in refused}
        return (key, kept, why if len(kept) == len(value) else "") if kept else None
    if key == "target" and "class" in refused:
        return key, value, ""
    return line


def root_line(key: str, folder: Path, why: str = "") -> Line:
    """Return the line of a folder; a relative one is as it was typed, which the file must say."""
    where = "" if folder.is_absolute() else f"as seen from {Path.cwd()}, where you type stagewise"
    return key, str(folder), "; ".join(filter(None, [why, where]))


def toml(value: object) -> str:
    """Write a value as TOML does, on one line.

    A JSON string is a TOML string but for U+007F, which TOML wants escaped.
    """
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return (
            "{ "
            + ", ".join(f"{key if BARE.fullmatch(key) else toml(key)} = {toml(inner)}" for key, inner in value.items())
            + " }"
        )
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value)


def skipped(bad: Sequence[BadItem], files: int) -> Line:
    """Return the line that leaves bad files out."""
    return "bad_items", "skip", f"left out: {len(bad)} of {files:,} files, such as {bad[0].key}"


def few(amount: str) -> list[str]:
    """Warn of a folder that holds too little to learn from."""
    return [f"warning: only {amount} to train on: good for a rehearsal, too little to learn from"]


def comment(text: str) -> str:
    """Return text that cannot end a comment, whatever the name of a file holds: TOML refuses control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def table(lines: Sequence[Line]) -> str:
    """Write lines `key = value    # why`, with the reason above where that would be too long."""
    written = []
    for key, value, why in lines:
        text, said = f"{key} = {toml(value)}", f"# {comment(why)}" if why else ""
        beside = f"{text:<36} {said}".rstrip()
        written.append(beside if len(beside) <= WIDTH or not why else f"{said}\n{text}")
    return "\n".join(written)
