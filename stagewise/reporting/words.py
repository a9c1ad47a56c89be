"""Names as a page can show them: whatever a file or folder may be called."""

from __future__ import annotations

import html

from stagewise.show import printable


def escape(text: object) -> str:
    """Return text as a page must write it."""
    return html.escape(printable(text))


def short(text: str, length: int) -> str:
    """Return the start of a name that is longer than a drawing has room for."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
