"""Random damage to the files of a run, whose hashes may be made right again."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from pathlib import Path
from typing import Any

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
    if not contents:
        return
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
