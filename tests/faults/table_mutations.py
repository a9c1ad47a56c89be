"""Tables of labels and lists as other programs would write them, or damaged; and what is right for each."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from pathlib import Path

from stagewise.datasets.names import Names
from stagewise.datasets.tables import read_table
from stagewise.errors import StagewiseError

KEYS = ["a/1.wav", "a/2.wav", "b/with space.wav", "b/Möwe.wav", "b/x,y.wav", "top.flac"]
LABELS = ["cat", "dog", "", "the dog", "cat", "dog"]


def rewrite(rng: random.Random) -> tuple[bytes, str, list[str] | None]:
    """Return a table, what was done to it, and the class of every item if that is the same as before."""
    separator, done = ",", []
    rows = [["file", "kind"], *([key, label] for key, label in zip(KEYS, LABELS, strict=True) if label)]
    for way in rng.sample(WAYS, rng.choice((0, 1, 2, 3))):
        rows = [rows[0], *([way(name, rng), label] for name, label in rows[1:])]
        done.append(way.__name__.removeprefix("_"))
    if rng.random() < 0.3:
        separator = rng.choice(";\t")
        done.append(f"separated by {separator!r}")
    if rng.random() < 0.3:
        rows = [[*row[::-1]] for row in rows]
        done.append("columns the other way round")
    if rng.random() < 0.3:
        rows = [rows[0], *rng.sample(rows[1:], len(rows) - 1)]
        done.append("lines in another order")
    blank = rng.choice(("", "", " "))
    lines = [separator.join(_cell(cell, separator, blank, rng) for cell in row) for row in rows]
    text = rng.choice(("\n", "\r\n")).join(lines) + rng.choice(("", "\n", "\n\n"))
    encoding = rng.choice(("utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1"))
    done.append(encoding)
    content = text.encode(encoding, "replace")
    expected: list[str] | None = LABELS if encoding != "latin-1" else None
    if rng.random() < 0.5:
        way = rng.choice(HARM)
        content, expected = way(content, rng), None
        done.append(way.__name__.removeprefix("_"))
    return content, ", ".join(done), expected


def try_to_read(path: Path) -> tuple[str, list[str] | None]:
    """Read a table; return what was said, and the class of every item, None if it was refused."""
    try:
        table = read_table(path.parent, "kind", path, Names(KEYS))
    except StagewiseError as error:
        return str(error), None
    return str(table.strays or ""), [table.names[number] if number >= 0 else "" for number in table.classes.tolist()]


def _cell(cell: str, separator: str, blank: str, rng: random.Random) -> str:
    quoted = separator in cell or rng.random() < 0.2
    return (f'"{cell}"' if quoted else cell) + (blank if not quoted and rng.random() < 0.5 else "")


def _decomposed(name: str, rng: random.Random) -> str:
    return unicodedata.normalize("NFD", name)


def _dotted(name: str, rng: random.Random) -> str:
    return f"./{name}"


def _backslashes(name: str, rng: random.Random) -> str:
    return name.replace("/", "\\")


def _alone(name: str, rng: random.Random) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _stem(name: str, rng: random.Random) -> str:
    return name.rpartition(".")[0] or name


WAYS: list[Callable[[str, random.Random], str]] = [_decomposed, _dotted, _backslashes, _alone, _stem]


def _bytes(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.choice((0, 1, 4))) + content[at + rng.choice((0, 1, 8)) :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _twice(content: bytes, rng: random.Random) -> bytes:
    return content + content


def _zeros(content: bytes, rng: random.Random) -> bytes:
    return content + bytes(rng.choice((1, 1000)))


def _quote(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + b'"' + content[at:]


def _long(content: bytes, rng: random.Random) -> bytes:
    return content + b"x" * 200_000 + b",cat\n"


HARM: list[Callable[[bytes, random.Random], bytes]] = [_bytes, _bytes, _cut, _twice, _zeros, _quote, _long]
