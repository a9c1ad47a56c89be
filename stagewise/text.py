"""Numbers and names as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

UNKNOWN = "\N{REPLACEMENT CHARACTER}"
UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def printable(text: object, keep: str = "") -> str:
    """Replace what no terminal and no page may be sent: control characters, and bytes of a name that are no text.

    Args:
        text: a name or a message.
        keep: control characters that it may hold.
    """
    return "".join(letter if letter.isprintable() or letter in keep else UNKNOWN for letter in str(text))


def bytes_text(count: float) -> str:
    """Write bytes with a binary unit and three significant digits: 1.10 TiB."""
    power = 0
    while count >= 999.5 and power < len(UNITS) - 1:
        count, power = count / 1024, power + 1
    return f"{_three(count) if power else f'{count:.0f}'} {UNITS[power]}"


def counted(count: int, one: str, several: str = "") -> str:
    """Write how many there are: 1 file, 2,000 files; 1 class, 2 classes."""
    return f"{count:,} {one if count == 1 else several or f'{one}s'}"


def computed_text(device: str, threads: int, precisions: Mapping[str, str]) -> str:
    """Say what computes, and in which numbers: `device` and `precision` may have been left to be chosen.

    Args:
        device: that was chosen: "cpu", "cuda:0".
        threads: of the CPU.
        precisions: of every stage, by its name.
    """
    stages: dict[str, list[str]] = {}
    for name, precision in precisions.items():
        stages.setdefault(precision, []).append(name)
    whose = {precision: f" ({', '.join(names)})" * (len(stages) > 1) for precision, names in stages.items()}
    place = f"{device} with {counted(threads, 'thread')}" if device == "cpu" else device
    return f"computed on {place}, in {' and '.join(precision + names for precision, names in whose.items())}"


def epochs_text(train: Mapping[str, Any]) -> str:
    """Say how many epochs a stage was trained, of how many it might have been."""
    allowed = train.get("epochs_allowed")
    return f"{train['epochs']:,}" if not allowed or not train["epochs"] else f"{train['epochs']:,}/{allowed:,}"


def seconds_text(seconds: float) -> str:
    """Write seconds: 4.2 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def about_text(seconds: float) -> str:
    """Write a time as roughly as it is known before it begins: less than a minute, 31 minutes, 2.1 hours, 3.4 days."""
    if seconds < 60:
        return "less than a minute"
    if seconds < 6000:
        return counted(round(seconds / 60), "minute")
    return f"{seconds / 3600:.1f} hours" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def clock_text(seconds: float) -> str:
    """Write seconds as a clock does, in few characters: 0:04, 10:20, 26:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _three(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
