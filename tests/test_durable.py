"""Durable writing: whole or absent after anything, and a disk's troubles in words."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from stagewise import durable
from stagewise.errors import DiskError


@pytest.mark.parametrize("blocks", [b"one two", [b"one", memoryview(b" two")], iter([b"one ", b"", b"two"])])
def test_a_file_is_written_whole(tmp_path, blocks):
    path = tmp_path / "x"
    digest = durable.write_bytes(path, blocks)
    assert path.read_bytes() == b"one two"
    assert digest == hashlib.sha256(b"one two").hexdigest() == durable.sha256_of(path)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_file_is_replaced(tmp_path):
    durable.write_bytes(tmp_path / "x", b"a long old content")
    durable.write_bytes(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"new"


def test_json_keeps_order_and_digits(tmp_path):
    content = {"b": 1 / 3, "a": [1, None, True, "ü"], "c": 1e-300}
    digest = durable.write_json(tmp_path / "x.json", content)
    read = durable.read_json(tmp_path / "x.json", "Delete it.")
    assert read == content
    assert list(read) == list(content)
    assert digest == durable.sha256_of(tmp_path / "x.json")
    with pytest.raises(ValueError, match="Out of range float"):
        durable.write_json(tmp_path / "x.json", {"a": float("nan")})
    assert durable.read_json(tmp_path / "x.json", "") == content


class Killed(BaseException):
    pass


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_kill_while_writing_leaves_the_old_file(tmp_path, monkeypatch, operation):
    durable.write_bytes(tmp_path / "x", b"old")

    def kill(*_):
        raise Killed

    monkeypatch.setattr(os, operation, kill)
    with pytest.raises(Killed):
        durable.write_bytes(tmp_path / "x", b"new")
    assert (tmp_path / "x").read_bytes() == b"old"
    assert durable.sweep(tmp_path) == [tmp_path / "x.partial"]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_file_is_forced_to_the_disk_before_it_is_named_and_its_folder_after(tmp_path, monkeypatch):
    def name_of(descriptor):
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())

    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(name_of(fd)), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), replace(a, b)))
    durable.write_bytes(tmp_path / "x", b"content")
    assert calls == [str(tmp_path / "x.partial"), "rename", str(tmp_path)]


MESSAGES = {
    errno.ENOSPC: "disk full at {path}: free some space, then type the same command again; "
    "everything committed before is intact.",
    errno.EDQUOT: "disk full at {path}: free some space, then type the same command again; "
    "everything committed before is intact.",
    errno.EROFS: "cannot write {path} (Read-only file system): make its folder writable, or name another one "
    "(--run, --out).",
    errno.EACCES: "cannot write {path} (Permission denied): make its folder writable, or name another one "
    "(--run, --out).",
    errno.EPERM: "cannot write {path} (Operation not permitted): make its folder writable, or name another one "
    "(--run, --out).",
    errno.EIO: "input/output error at {path}: check the disk, then type the same command again; "
    "everything committed before is intact.",
}


@pytest.mark.parametrize("number", MESSAGES)
@pytest.mark.parametrize(
    ("operation", "act"),
    [
        ("fsync", lambda path: durable.write_bytes(path, b"new")),
        ("replace", lambda path: durable.write_bytes(path, b"new")),
        ("fsync", lambda path: durable.append_line(path, {})),
        ("replace", durable.remove),
    ],
)
def test_a_disks_troubles_in_words(tmp_path, monkeypatch, number, operation, act):
    path = tmp_path / "x"
    path.write_bytes(b"old\n")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, operation, fail)
    with pytest.raises(DiskError) as raised:
        act(path)
    assert str(raised.value) == MESSAGES[number].format(path=path)
    assert isinstance(raised.value.__cause__, OSError)
    assert path.read_bytes().startswith(b"old\n")


def test_sweeping_a_failing_disk(tmp_path, monkeypatch):
    (tmp_path / "x.partial").touch()

    def fail(*_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(type(tmp_path), "unlink", fail)
    with pytest.raises(DiskError, match=r"^cannot write .*Read-only file system"):
        durable.sweep(tmp_path)


def test_other_troubles_are_not_hidden(tmp_path):
    with pytest.raises(FileNotFoundError):
        durable.write_bytes(tmp_path / "nowhere" / "x", b"")
    with pytest.raises(DiskError, match="of another"), durable.disk_errors(tmp_path):
        raise DiskError("of another")


def test_lines_are_appended(tmp_path):
    path = tmp_path / "log"
    assert durable.read_lines(path) == []
    for number in range(3):
        durable.append_line(path, {"n": number})
    assert path.read_bytes() == b'{"n": 0}\n{"n": 1}\n{"n": 2}\n'
    assert durable.read_lines(path) == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize("kept", range(1, 12))
def test_a_torn_line_harms_no_other(tmp_path, kept):
    path = tmp_path / "log"
    durable.append_line(path, {"n": 0})
    line = json.dumps({"n": "torn"}).encode()
    with path.open("ab") as file:
        file.write(line[:kept])
    assert durable.read_lines(path) == [{"n": 0}]
    durable.append_line(path, {"n": 1})
    durable.append_line(path, {"n": 2})
    assert durable.read_lines(path) == [{"n": 0}, {"n": 1}, {"n": 2}]


def folder_of(tmp_path):
    (tmp_path / "stage" / "deep").mkdir(parents=True)
    (tmp_path / "stage" / "deep" / "x").touch()
    return tmp_path / "stage"


def file_of(tmp_path):
    (tmp_path / "x").touch()
    return tmp_path / "x"


def link_of(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "kept").touch()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    return tmp_path / "link"


def broken_link_of(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    return tmp_path / "link"


@pytest.mark.parametrize("make", [folder_of, file_of, link_of, broken_link_of])
def test_removing(tmp_path, make):
    path = make(tmp_path)
    durable.remove(path)
    assert {p.name for p in tmp_path.iterdir()} <= {"target"}
    if make is link_of:
        assert (tmp_path / "target" / "kept").exists()
    durable.remove(path)  # twice does no harm


@pytest.mark.parametrize("make", [folder_of, file_of, link_of, broken_link_of])
def test_a_kill_while_removing_leaves_trash_at_most(tmp_path, monkeypatch, make):
    path = make(tmp_path)

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(durable, "_delete", kill)
        with pytest.raises(Killed):
            durable.remove(path)
    assert not path.exists()
    assert not path.is_symlink()
    trash = tmp_path / f".trash-{path.name}"
    again = tmp_path / "again"
    again.mkdir()
    make(again).rename(path)  # a new one takes its place, and is removed too
    durable.remove(path)
    assert not path.exists()
    assert not trash.exists()
    assert not trash.is_symlink()


def test_sweeping(tmp_path):
    for name in ("x", "x.partial", "partial", "sub/y.partial", ".trash-a/b", "c.partial/d"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    swept = durable.sweep(tmp_path)
    assert sorted(p.name for p in swept) == [".trash-a", "c.partial", "x.partial"]
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["partial", "sub", "x", "y.partial"]
