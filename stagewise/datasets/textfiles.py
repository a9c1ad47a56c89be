"""Small text files around a data set: lines with their numbers, whatever system wrote them."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from stagewise.errors import DataError

LINE_END = re.compile("\r\n?|\n")
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_lines(path: Path, blank: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the number and text of every line; UTF-8 and UTF-16 with a byte order mark, and any line ends, are read.

    Args:
        path: of the file.
        blank: also yield the lines that hold nothing.

    Raises:
        DataError: the file is missing, unreadable or neither UTF-8 nor UTF-16.
    """
    number = 1
    try:
        for line in _lines(path):
            if "\0" in line:
                raise UnicodeError
            if blank or line.strip():
                yield number, line
            number += 1
    except UnicodeError:
        raise DataError(f"{path}:{number}: not UTF-8 text: save the file as UTF-8.") from None
    except OSError as error:
        here = "" if path.is_absolute() else f"; paths start where you type, in {Path.cwd()}"
        raise DataError(f"cannot read {path} ({error.strerror}{here}): check the path.") from None


def _lines(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        for number, line in enumerate(file):
            if number == 0 and line.startswith(UTF_16):
                yield from LINE_END.split((line + file.read()).decode("utf-16"))
                return
            text = line.decode("utf-8-sig" if number == 0 else "utf-8").removesuffix("\n").removesuffix("\r")
            yield from LINE_END.split(text) if "\r" in text else (text,)
