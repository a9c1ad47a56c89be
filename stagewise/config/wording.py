"""How values and suggestions are written in messages."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

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
