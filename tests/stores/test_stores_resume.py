"""Killed or failing at any step, a store is resumed and becomes the undisturbed one to the byte."""

from __future__ import annotations

import errno
import os

import pytest
from stores_example import ROWS, UNIT, Killed, break_disk, content, spec, write_all, write_some

from stagewise.errors import DiskError
from stagewise.stores import StoreWriter, finished, verify_store


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_resumes_at_the_last_journaled_shard(tmp_path, dtype):
    write_some(tmp_path, 70, dtype)
    written = {name: (tmp_path / "store.zarr" / name).stat().st_mtime_ns for name in ("z/c/0/0", "z/c/1/0")}
    with StoreWriter(tmp_path, spec(dtype), "a", UNIT if dtype == "int8" else None) as writer:
        assert writer.rows_done == 64
        writer.append(ROWS[64:])
        manifest = writer.commit()
    assert {name: (tmp_path / "store.zarr" / name).stat().st_mtime_ns for name in written} == written
    assert verify_store(tmp_path) == []
    assert finished(tmp_path, "a") == manifest


def harm(folder, kind):
    """What a kill or a bad disk may leave; returns the rows that are still good."""
    store, journal = folder / "store.zarr", folder / "store.journal"
    if kind == "torn line":
        journal.write_bytes(journal.read_bytes() + b'{"path": "z/c/2')
    elif kind == "partial files":
        (store / "z/c/2").mkdir(exist_ok=True)
        (store / "z/c/2/0.partial").write_bytes(b"half")
        (folder / "store.journal.partial").write_bytes(b"half")
    elif kind == "shard not journaled":
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]))
        return 32
    elif kind == "shard missing":
        (store / "z/c/0/0").unlink()
        return 0
    elif kind == "shard cut":
        os.truncate(store / "z/c/1/0", 100)
        return 32
    elif kind == "line damaged":
        first, second, third = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(first + second.replace(b"z/c/0/0", b"../x") + third)
        return 0
    elif kind == "line of another kind":
        first, _, third = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(first + b"[3]\n" + third)
        return 0
    elif kind == "small file damaged":
        (store / "offsets/c/0").write_bytes(b"")
        return 0
    elif kind == "small file missing":
        (store / "z/zarr.json").unlink()
        return 0
    elif kind == "journal missing":
        journal.unlink()
        return 0
    elif kind == "journal header damaged":
        journal.write_bytes(b"3\n" + journal.read_bytes())
        return 0
    return 64


KINDS = (
    "nothing", "torn line", "partial files", "shard not journaled", "shard missing", "shard cut",
    "line damaged", "line of another kind", "small file damaged", "small file missing", "journal missing",
    "journal header damaged",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_store_is_the_undisturbed_one_to_the_byte(tmp_path, kind):
    calm, harmed = tmp_path / "calm", tmp_path / "harmed"
    calm.mkdir()
    harmed.mkdir()
    write_all(calm, "int8")
    write_some(harmed, 70, "int8")
    good = harm(harmed, kind)
    with StoreWriter(harmed, spec("int8"), "a", UNIT) as writer:
        assert writer.rows_done == good
        writer.append(ROWS[good:80])
    with StoreWriter(harmed, spec("int8"), "a", UNIT) as writer:
        assert writer.rows_done == 64
        writer.append(ROWS[64:])
        writer.commit()
    assert content(harmed) == content(calm)


@pytest.mark.parametrize("failure", [Killed, errno.ENOSPC, errno.EIO, errno.EROFS])
def test_disk_that_fails_at_any_step_costs_no_published_row(tmp_path, monkeypatch, failure):
    calm = tmp_path / "calm"
    calm.mkdir()
    write_all(calm, "int8")
    words = {errno.ENOSPC: "disk full at", errno.EIO: "input/output error", errno.EROFS: "cannot write"}
    nth = 0
    while True:
        # Every step when killed; every third, at another phase each, for the errors, which take the same way.
        nth += 1 if failure is Killed else 3
        folder = tmp_path / f"{nth}"
        folder.mkdir()
        with monkeypatch.context() as patch:
            steps = break_disk(patch, nth, failure)
            said = ""
            try:
                write_all(folder, "int8")
            except (Killed, DiskError) as error:
                said = str(error)
        if steps() < nth:
            break
        if failure is not Killed:
            assert words[failure] in said
            assert str(folder) in said
            assert not list(folder.glob("store.zarr/z/c/*/*.partial"))
        if finished(folder, "a") is None:
            write_all(folder, "int8")
        assert content(folder) == content(calm)
    assert nth > 40


def test_a_journal_of_another_format_starts_anew(tmp_path):
    write_some(tmp_path, 70)
    path = tmp_path / "store.journal"
    assert len(path.read_text().splitlines()) > 1
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    with StoreWriter(tmp_path, spec(), "a") as writer:
        assert writer.rows_done == 0


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize(
    ("harmed", "good"), [("nothing", 70), ("a bit", 64), ("cut", 64), ("no header", 64), ("of a later shard", 32)]
)
def test_kept_rows_of_a_shard_that_is_not_full_are_used_if_they_are_whole_and_its_own(tmp_path, dtype, harmed, good):
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "folder"
    for place in (undisturbed, folder):
        place.mkdir()
    write_all(undisturbed, dtype)
    with StoreWriter(folder, spec(dtype), "a", UNIT if dtype == "int8" else None) as writer:
        writer.append(ROWS[:70])
        writer.keep()
    kept, journal = folder / "store.kept", folder / "store.journal"
    whole = kept.read_bytes()
    if harmed == "of a later shard":
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:2]))
    else:
        harm = {"a bit": whole[:-1] + bytes([whole[-1] ^ 1]), "cut": whole[:-1], "no header": b"\n" + whole}
        kept.write_bytes(harm.get(harmed, whole))
    with StoreWriter(folder, spec(dtype), "a", UNIT if dtype == "int8" else None) as writer:
        assert writer.rows_done == good
    write_all(folder, dtype)
    assert content(folder) == content(undisturbed)


def test_a_state_is_kept_without_rows_and_when_its_shard_is_full(tmp_path):
    """What a writer is given to go on from lasts until it is given something else, unless it was damaged."""
    for rows, state in ((0, b"begun"), (5, b""), (64, b"at a shard's end"), (80, b"later")):
        with StoreWriter(tmp_path, spec(), "a") as writer:
            writer.append(ROWS[writer.rows_done : rows])
            writer.keep(state)
        with StoreWriter(tmp_path, spec(), "a") as writer:
            assert (writer.rows_done, writer.state) == (rows, state)
    with StoreWriter(tmp_path, spec(), "a") as writer:
        writer.append(ROWS[80:])  # the last shard is published, and nothing kept
    with StoreWriter(tmp_path, spec(), "a") as writer:
        assert (writer.rows_done, writer.state) == (95, b"later")
    whole = (tmp_path / "store.kept").read_bytes()
    (tmp_path / "store.kept").write_bytes(whole.replace(b"later", b"Later"))
    with StoreWriter(tmp_path, spec(), "a") as writer:
        assert writer.state == b""
        writer.commit()
    assert not (tmp_path / "store.kept").exists()
