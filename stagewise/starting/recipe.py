"""What a pipeline file will say, before its words: tables of keys, values and the reasons for them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stagewise.datasets.base import BadItem

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
        store: lines of the stores' defaults.
        stages: lines of every stage.
        label: what probes predict, None without labels.
        images: whether items are images.
        reading: seconds that reading one window takes, where that is of weight.
    """

    data: list[Line]
    objective: list[Line]
    batch_size: int
    learning_rate: float
    why_rate: str
    store: list[Line]
    stages: list[list[Line]]
    label: str | None
    images: bool
    reading: float = 0.0


def toml(value: object) -> str:
    """Write a value as TOML does, on one line.

    A JSON string is a TOML string but for U+007F, which TOML wants escaped.
    """
    if isinstance(value, bool | str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, Sequence):
        return "[" + ", ".join(map(toml, value)) + "]"
    return repr(value)


def skipped(bad: Sequence[BadItem], files: int) -> Line:
    """Return the line that leaves bad files out."""
    return "bad_items", "skip", f"left out: {len(bad)} of {files:,} files, such as {bad[0].key}"


def comment(text: str) -> str:
    """Return text that cannot end a comment, whatever the name of a file holds: TOML refuses control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def table(lines: Sequence[Line]) -> str:
    """Write lines `key = value    # why`."""
    written = [(f"{key} = {toml(value)}", why) for key, value, why in lines]
    return "\n".join(f"{text:<36} # {comment(why)}" if why else text for text, why in written)
