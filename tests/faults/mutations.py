"""Random damage to the text of a pipeline file and to the files of a run, whose hashes may be made right again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
INLINE = re.compile(r"([\w-]+ = )([^,{}\[\]]+|\[[^\]]*\])")


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


STRANGE = [None, True, False, 0, -1, 1, 3, 10**15, -(2**63), 2**64, 1.5, 1e300, "", "x", "../../x", "/etc/passwd",
           "written", "dropped", "recomputed", [], [1], [[]], {}, {"a": 1}, "\0", "é" * 200]  # fmt: skip


def damage_run(run: Path, outside: Path, rng: random.Random) -> tuple[str, list[str], bool]:
    """Damage one file or folder of a run.

    Returns:
        What was done; names of which a message has one; whether it is a lie, under hashes made right again.
    """
    paths = sorted(path for path in run.rglob("*") if path.is_file())
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault("store.zarr" if "store.zarr" in path.parts else path.name, []).append(path)
    path = rng.choice(groups[rng.choice(sorted(groups))])
    if rng.random() < 0.1:
        path = rng.choice([p for p in path.parents if p.is_relative_to(run) and p != run] or [path])
    name = str(path.relative_to(run))
    parts = [part for part in Path(name).parts if part not in ("stages", "probes", "c", "0", "z", "a", "b")]
    if path.is_dir():
        way = rng.choice([_deleted, _linked, _dangling, _made_file])
        way(path, outside, rng)
        return f"{name}: {way.__name__.removeprefix('_')}", parts or [name], False
    ways: list[Any] = [_flipped, _flipped, _truncated, _emptied, _deleted, _made_folder, _linked, _dangling, _swapped]
    if path.suffix in (".json", ".jsonl", ".journal"):
        ways += [_changed] * 12
    way = rng.choice(ways)
    detail = way(path, outside, rng) or ""
    lie = way in (_changed, _flipped, _swapped, _truncated, _emptied) and rng.random() < 0.5
    if lie:
        make_right(run)
    return f"{name}: {way.__name__.removeprefix('_')} {detail}{' (a lie)' if lie else ''}", parts, lie


def _flipped(path: Path, outside: Path, rng: random.Random) -> str:
    content = bytearray(path.read_bytes())
    if content:
        at = rng.randrange(min(len(content), 120) if rng.random() < 0.5 else len(content))
        content[at] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        return f"byte {at}"
    return ""


def _truncated(path: Path, outside: Path, rng: random.Random) -> None:
    os.truncate(path, rng.randint(0, path.stat().st_size))


def _emptied(path: Path, outside: Path, rng: random.Random) -> None:
    os.truncate(path, 0)


def _deleted(path: Path, outside: Path, rng: random.Random) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _made_folder(path: Path, outside: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()
    if rng.random() < 0.5:
        (path / "x").write_text("x")


def _made_file(path: Path, outside: Path, rng: random.Random) -> None:
    shutil.rmtree(path)
    path.write_text("x")


def _linked(path: Path, outside: Path, rng: random.Random) -> None:
    path.rename(outside / path.name)
    path.symlink_to(outside / path.name)


def _dangling(path: Path, outside: Path, rng: random.Random) -> None:
    _deleted(path, outside, rng)
    path.symlink_to(rng.choice([outside / "nothing", Path("/dev/zero"), path]))


def _swapped(path: Path, outside: Path, rng: random.Random) -> None:
    """Put in its place what pickle or another program would have written."""
    payload = b"cos\nsystem\n(S'touch ran'\ntR."
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}}).encode()
    huge = len(header).to_bytes(8, "little") + header
    path.write_bytes(rng.choice([payload, huge, b"[" * 100_000, b"\xff" * 100, b"{}\n", b"[]\n", b"null\n", b"1\n"]))


def _changed(path: Path, outside: Path, rng: random.Random) -> str:
    """Change, remove or add one value of JSON, or of a line of it."""
    lines = [path.read_text()] if path.suffix == ".json" else path.read_text().splitlines()
    if not lines:
        return ""
    number = rng.randrange(len(lines))
    content = json.loads(lines[number])
    spots = list(_spots(content))
    holder, key = rng.choice(spots)
    old, new = holder[key], rng.choice(STRANGE)
    if rng.random() < 0.2:
        del holder[key]
        new = "removed"
    else:
        if type(old) in (int, float) and rng.random() < 0.5:
            new = rng.choice([old + 1, old * 2, -old, old * 10**12])
        holder[key] = new
    lines[number] = json.dumps(content)
    path.write_text("\n".join(lines) + "\n")
    return f"{key}: {str(old)[:40]!r} → {str(new)[:40]!r}"


def _spots(content: Any) -> Any:
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        yield content, key
        yield from _spots(value)


def make_right(run: Path) -> None:
    """Make every hash in a run fit what is there, as far as that is still JSON: files first, then what covers them."""
    for name in ("store.manifest.json", "store.journal", "probe.json", "state.json", "trained.json", "stage.json",
                 "data.json", "pipeline.lock.json"):  # fmt: skip
        for path in run.rglob(name):
            try:
                _right(path)
            except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError):
                continue


def _right(path: Path) -> None:
    lines = path.read_text().splitlines() if path.suffix == ".journal" else [path.read_text()]
    contents = [json.loads(line) for line in lines]
    first, folder = contents[0], path.parent
    store = folder / "store.zarr"
    base = store if path.name.startswith("store.") else folder
    if isinstance(first.get("files"), dict):
        first["files"] = {name: _sha256(base / name, digest) for name, digest in first["files"].items()}
    for shard in first["shards"] if path.name == "store.manifest.json" else contents[1:]:
        shard["sha256"] = _sha256(store / shard["path"], shard["sha256"])
    for name, tensors in (("probe.json", "probe.safetensors"), ("state.json", "state.safetensors")):
        if path.name == name:
            first["sha256"] = _sha256(folder / tensors, first["sha256"])
    if "own_sha256" in first:
        del first["own_sha256"]
        first["own_sha256"] = hashlib.sha256(json.dumps(first, sort_keys=True).encode()).hexdigest()
    if path.suffix == ".journal":
        path.write_text("".join(json.dumps(line) + "\n" for line in contents))
    else:
        path.write_text(json.dumps(first, indent=1) + "\n")


def _sha256(path: Path, old: Any) -> Any:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else old
