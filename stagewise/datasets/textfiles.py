"""Small text files around a data set: lines with their numbers, and lists of item keys."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from stagewise.errors import DataError


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and text of every line that is not blank; a BOM and CRLF do not matter.

    Raises:
        DataError: the file is missing, unreadable or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text.strip():
                    yield number, text
    except UnicodeDecodeError:
        raise DataError(f"{path}:{number}: not UTF-8 text: save the file as UTF-8.") from None
    except OSError as error:
        here = "" if path.is_absolute() else f"; paths start where you type, in {Path.cwd()}"
        raise DataError(f"cannot read {path} ({error.strerror}{here}): check the path.") from None
