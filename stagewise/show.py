"""Numbers and names as people read them."""

from __future__ import annotations

UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def printable(text: object, keep: str = "") -> str:
    """Replace what no terminal and no page may be sent: control characters, and bytes of a name that are no text.

    Args:
        text: a name or a message.
        keep: control characters that it may hold.
    """
    return "".join(letter if letter.isprintable() or letter in keep else UNKNOWN for letter in str(text))


def bytes_text(count: float) -> str:
    """Write bytes of memory with a binary unit and three significant digits: 1.10 TiB."""
    return _scaled(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def disk_text(count: float) -> str:
    """Write bytes on a disk with a decimal unit, as disks are sold, and three significant digits: 1.19 TB."""
    return _scaled(count, 1000, ("B", "kB", "MB", "GB", "TB"))


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


def clock_text(seconds: float) -> str:
    """Write seconds as a clock does, in few characters: 0:04, 10:20, 26:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _three(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _scaled(count: float, base: int, units: tuple[str, ...]) -> str:
    power = 0
    while count >= 999.5 and power < len(units) - 1:
        count, power = count / base, power + 1
    return f"{_three(count) if power else f'{count:.0f}'} {units[power]}"
