"""Names as a page can show them: whatever a file or folder may be called."""

from __future__ import annotations

import html


def clean(text: object) -> str:
    """Replace what no page can show: control characters, and bytes of a file name that are no text."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))


def escape(text: object) -> str:
    """Return text as a page must write it."""
    return html.escape(clean(text))


def short(text: str, length: int) -> str:
    """Return the start of a name that is longer than a drawing has room for."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
