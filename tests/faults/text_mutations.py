"""Random damage to the text of a pipeline file."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from toml_pieces import PIECES

VALUES = [
    *["0", "-1", "1", "2", "3", "7", "1e999", "nan", "-inf", "true", "false", "1.5", "99999999999999999999"],
    *["9223372036854775807", "1000000000000000", "-9223372036854775808", "[]", "{}", "[[]]", "[1, 2]", '""', '"x"'],
    *['"../../x"', '"/etc/passwd"', '"/nowhere/at/all"', '"os:system"', '"builtins:eval"', '"torch:Tensor"'],
    *['"torch.nn:Module"', '"subprocess:Popen"', '"pathlib:Path"', '"stagewise.objectives:InfoNCE"', '"conv1d"'],
    *['"gru"', '"infonce"', '"3 GiB"', '"1 B"', '"cuda"', '"cuda:7"', '"iterative"', '"simultaneous"', '"all"'],
    *['"auto"', '"float16"', '"bfloat16"', "2024-01-01", "{ target = 'gru' }", "{ target = 'os:system' }"],
    *['"' + "x" * 300 + '"', '"' + "é" * 128 + '"', '"\\u0000"', '"a\\nb"', '"' + "[" * 200 + '"', '"."', '"~"'],
]
HEADER = re.compile(r"^\[.*$", re.MULTILINE)
ASSIGNED = re.compile(r"^(\s*[\w.-]+\s*=\s*)(.+)$")
INLINE = re.compile(r"(?<![\w-])([\w-]++ = )([^,{}\[\]]+|\[[^\]]*\])")


def mutate_text(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Change a pipeline file in one to four places; return it and what was done."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
        way = rng.choice(WAYS)
        content = way(content, rng)
        done.append(way.__name__.removeprefix("_"))
    return content, ", ".join(done)


def _byte(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.choice((0, 1, 1, 4))) + content[at + rng.choice((0, 1, 1, 8)) :]


def _piece(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    piece = rng.choice(PIECES) * rng.choice((1, 1, 1, 3, 5000))
    return content[:at] + piece.encode() + content[at + rng.choice((0, 0, 1)) :]


def _cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _by_lines(change: Callable[[list[str], random.Random], None]) -> Callable[[bytes, random.Random], bytes]:
    def way(content: bytes, rng: random.Random) -> bytes:
        lines = content.decode("utf-8", "surrogateescape").split("\n")
        change(lines, rng)
        return "\n".join(lines).encode("utf-8", "surrogateescape")

    way.__name__ = change.__name__
    return way


def _line(lines: list[str], rng: random.Random) -> None:
    """Drop, repeat or move a line."""
    line = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.choice((0, 0, 1, 2))):
        lines.insert(rng.randint(0, len(lines)), line)
    if not lines:
        lines.append("")


def _value(lines: list[str], rng: random.Random) -> None:
    """Give a key another value: a strange one, or that of another key."""
    places = [number for number, line in enumerate(lines) if ASSIGNED.match(line)]
    if not places:
        return
    at, other = rng.choice(places), ASSIGNED.match(lines[rng.choice(places)])
    value = other[2] if other and rng.random() < 0.2 else rng.choice(VALUES)
    inner = list(INLINE.finditer(lines[at].partition("=")[2]))
    if "{" in lines[at] and inner and rng.random() < 0.8:  # an argument of a target
        start, (match, shift) = len(lines[at].partition("=")[0]) + 1, (rng.choice(inner), 0)
        lines[at] = lines[at][: start + match.start(2) + shift] + value + lines[at][start + match.end(2) :]
    else:
        lines[at] = ASSIGNED.sub(lambda m: m[1] + value, lines[at])


def _key(lines: list[str], rng: random.Random) -> None:
    """Rename a key, or give a table one that belongs elsewhere."""
    places = [number for number, line in enumerate(lines) if ASSIGNED.match(line)]
    if places:
        one, other = rng.choice(places), rng.choice(places)
        key = lines[other].partition("=")[0]
        new = rng.choice([key, "x ", '"" ', '"../x" ', "a.b.c ", f"{'k' * 300} ", "__class__ ", "self ", "target "])
        lines[one] = f"{new}={lines[one].partition('=')[2]}"


def _table(lines: list[str], rng: random.Random) -> None:
    """Swap, rename, repeat or drop headers of tables."""
    places = [number for number, line in enumerate(lines) if HEADER.match(line)]
    if not places:
        return
    one, other = rng.choice(places), rng.choice(places)
    new = rng.choice(["", "[x]", "[[stage]]", "[stage]", "[data]", "[[data]]", "[defaults.probe]", "[stage.train]"])
    if rng.random() < 0.5:
        lines[one], lines[other] = lines[other], lines[one]
    else:
        lines[one] = new


def _huge(content: bytes, rng: random.Random) -> bytes:
    """Append what is large: a long text, deep lists, thousands of stages."""
    stage = b'[[stage]]\nname = "s%d"\nencoder = { target = "gru", input_size = 8, hidden_size = 8 }\n'
    return content + rng.choice(
        [
            b'\nx = "' + b"a" * (2 << 20) + b'"\n',
            b"\nx = " + b"[" * 3000 + b"]" * 3000 + b"\n",
            b"\nx = " + b"{a=" * 500 + b"1" + b"}" * 500 + b"\n",
            b"\n" + b".".join([b"a"] * 2000) + b" = 1\n",
            b"\n" + b"".join(stage % number for number in range(3)),
            b"\nx = " + b"9" * 5000 + b"\n",
            b"\n" + b"".join(b"k%d = 1\n" % number for number in range(5000)),
        ]
    )


def _encoding(content: bytes, rng: random.Random) -> bytes:
    """Write the file in another encoding or with other line ends."""
    return rng.choice(
        [
            b"\xef\xbb\xbf" + content,
            content.replace(b"\n", b"\r\n"),
            content.replace(b"\n", b"\r"),
            content.decode("utf-8", "replace").encode("utf-16"),
            content + b"\x00",
            content + b"\xff\xfe",
        ]
    )


WAYS = [
    *map(_by_lines, (_value,) * 8 + (_line, _line, _key, _key, _table, _table)),
    _byte,
    _piece,
    _cut,
    _huge,
    _encoding,
]
