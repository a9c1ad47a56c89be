"""Values of a pipeline file in words, and words as values: sizes, times, and what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

# How values and suggestions are written in messages.

LONGEST = 60  # characters of a user's value that a message repeats


def shown(value: object) -> str:
    """Write a value of the file for a message: short, on one line, without control characters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        cut = value if len(value) <= LONGEST else value[:LONGEST] + "…"
        return f'"{repr(cut)[1:-1]}"'
    if isinstance(value, int | float):
        # An int of thousands of digits cannot even be printed.
        return str(value) if abs(value) < 1 << 64 or isinstance(value, float) else "a number beyond 64 bits"
    return f"a value of type {type(value).__name__}"


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ` (did you mean "…"?)` when one of the known words is close, and nothing otherwise."""
    by_lower = {name.lower(): name for name in known}
    if not isinstance(word, str) or len(word) > LONGEST:
        return ""
    close = difflib.get_close_matches(word.lower(), by_lower, n=1)
    return f' (did you mean "{by_lower[close[0]]}"?)' if close else ""


def listed(words: Iterable[str]) -> str:
    """Join words for a message; `none` when there are none."""
    return ", ".join(words) or "none"


def as_number(text: str) -> str | None:
    """Write a text that was meant as a number as TOML wants it; None if it is no number."""
    if not re.fullmatch(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?", text):
        return None
    return text if re.fullmatch(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?", text) else repr(float(text))


# Units live in values: "3 GiB" is a number of bytes, "10 min" a number of seconds.

_NUMBER = r"\d{1,15}(?:\.\d{1,9})?"
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
LARGEST = 2**63 - 1  # what TOML, JSON and file systems can count


def parse_bytes(value: object) -> int:
    """Read a size: a whole number of bytes, or text such as "3 GiB" or "1.5 GB".

    Raises:
        ValueError: it is not a size of at least one byte.
    """
    size = _parse(value, _BYTES)
    if isinstance(value, float) or size is None or not 1 <= size <= LARGEST:
        raise ValueError(
            f'{shown(value)} is not a size: write "3 GiB", "64 MiB" or a whole number of bytes, at least 1'
        )
    return int(size)


def parse_duration(value: object) -> float:
    """Read a duration: a number of seconds, or text such as "10 min", "30 s" or "2 h".

    Raises:
        ValueError: it is not a duration.
    """
    seconds = _parse(value, _SECONDS)
    if seconds is None or not 0 <= seconds <= LARGEST:
        raise ValueError(f'{shown(value)} is not a duration: write "10 min", "30 s", "2 h" or a number of seconds')
    return float(seconds)


def _parse(value: object, units: dict[str, int]) -> int | float | Decimal | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        return None
    match = re.fullmatch(rf"\s*({_NUMBER})\s*([A-Za-z]+)\s*", value, re.ASCII)
    by_lower = {name.lower(): factor for name, factor in units.items()}
    if match is None or match[2].lower() not in by_lower:
        return None
    return Decimal(match[1]) * by_lower[match[2].lower()]


def _schema(number: dict[str, object], units: dict[str, int]) -> dict[str, object]:
    text = {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*({'|'.join(units)})\s*$"}
    return {"anyOf": [number, text]}


Bytes = Annotated[int, BeforeValidator(parse_bytes), WithJsonSchema(_schema({"type": "integer", "minimum": 1}, _BYTES))]
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(_schema({"type": "number", "minimum": 0}, _SECONDS)),
]
