"""What is published is whole or not there, what it replaces too, and what a kill leaves is taken away."""

import errno
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from stagewise import durable as module
from stagewise.durable import publishing
from stagewise.errors import ConfigError, DiskError


class Killed(Exception):
    """A body that ends early."""


def put(path, kind, content):
    if kind == "folder":
        path.mkdir()
        path = path / "inside"
    path.write_text(content)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_publishing(tmp_path, kind):
    (tmp_path / "x.partial").mkdir()
    (tmp_path / "x.partial" / "mine").touch()
    put(tmp_path / "usual", kind, "")
    with publishing(tmp_path / "x") as place:
        put(place, kind, "whole")
        assert not (tmp_path / "x").exists()
    found = tmp_path / "x" / "inside" if kind == "folder" else tmp_path / "x"
    assert found.read_text() == "whole"
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")} - {"usual/inside", "x/inside"} == {
        "usual", "x", "x.partial", "x.partial/mine"
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("there", [False, True])
def test_what_was_published_meanwhile_is_left_alone(tmp_path, kind, there):
    path = tmp_path / "x"
    if there:
        path.write_text("old")
    places = []
    with (
        pytest.raises(ConfigError, match="x was written by somebody else meanwhile"),
        publishing(path) as late,
    ):
        places.append(late)
        put(late, kind, "late")
        with publishing(path) as early:
            places.append(early)
            early.write_text("early")
    assert path.read_text() == "early"
    assert len(set(places)) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_what_was_there_before_is_replaced(tmp_path):
    (tmp_path / "x").write_text("old")
    with pytest.raises(Killed), publishing(tmp_path / "x") as place:
        place.write_text("half")
        raise Killed
    assert (tmp_path / "x").read_text() == "old"
    with publishing(tmp_path / "x") as place:
        place.write_text("new")
    assert (tmp_path / "x").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_folder_is_replaced_or_left_as_it_was(tmp_path, monkeypatch, kind):
    path = tmp_path / "x"
    put(path, "folder", "old")

    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt), publishing(path) as place:
        put(place, kind, "new")
        patch.setattr("stagewise.durable._exchange", fail)
    assert (path / "inside").read_text() == "old"
    with publishing(path) as place:
        put(place, kind, "new")
    assert (path / "inside" if kind == "folder" else path).read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_where_nothing_can_be_published(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "mkdir", fail)
    with pytest.raises(DiskError, match=r"^cannot write .*x \(Permission denied\)"), publishing(tmp_path / "x"):
        pass


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("swaps", [True, False])
def test_a_folder_is_swapped_in_one_step_or_put_back(tmp_path, monkeypatch, kind, swaps):
    put(path := tmp_path / "x", "folder", "old")
    seen, replace = [], os.replace
    if not swaps:
        monkeypatch.setattr(module.ctypes, "CDLL", lambda _: None)

    def watched(*places):
        seen.append(path.exists())
        replace(*places)

    monkeypatch.setattr(os, "replace", watched)
    with publishing(path) as place:
        put(place, kind, "new")
    assert (path / "inside" if kind == "folder" else path).read_text() == "new"
    assert seen == ([] if swaps else [True, False])
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_where_the_second_step_fails_the_first_is_taken_back(tmp_path, monkeypatch):
    put(path := tmp_path / "x", "folder", "old")
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: None)
    replace = os.replace

    def once(place, to):
        if place.parent.name == module.NEW:
            raise OSError(errno.EIO, "broken")
        replace(place, to)

    monkeypatch.setattr(os, "replace", once)
    with pytest.raises(DiskError), publishing(path) as place:
        put(place, "folder", "new")
    assert (path / "inside").read_text() == "old"


def test_what_is_put_into_a_folder_meanwhile_is_not_lost(tmp_path):
    put(path := tmp_path / "x", "folder", "old")
    with pytest.raises(ConfigError, match="written by somebody else meanwhile"), publishing(path) as place:
        put(place, "folder", "new")
        (path / "mine").write_text("mine")
    assert (path / "mine").read_text() == "mine"


def test_what_a_killed_process_leaves_is_taken_away_and_nothing_else(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from stagewise.durable import publishing\n"
        "with publishing(Path(sys.argv[1])) as place:\n"
        "    place.mkdir(); (place / 'half').touch(); print(place.parent.parent, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "x"], stdout=subprocess.PIPE, text=True) as writer:
        left = Path(writer.stdout.readline().strip())
        with publishing(tmp_path / "y") as place:
            place.touch()
        assert left.exists()  # it is still being written
        writer.kill()
    for name, held in (("new", None), ("elsewhere", "another host")):  # one is about to be locked, one we cannot ask
        (folder := tmp_path / f"stagewise-{name}.partial").mkdir()
        if held:
            (folder / module.HELD).write_text(held)
    (tmp_path / "stagewise-mine.partial").mkdir()
    (tmp_path / "stagewise-mine.partial" / "thesis.tex").touch()  # of somebody who likes such names
    with publishing(tmp_path / "y") as place:
        place.touch()
    left = {f"stagewise-{name}.partial" for name in ("new", "elsewhere", "mine")}
    assert {p.name for p in tmp_path.iterdir()} == {*left, "y"}


@pytest.mark.parametrize("there", [False, True])
def test_what_a_killed_process_was_replacing_is_put_back(tmp_path, there):
    for kind in (module.OLD, module.NEW):
        (tmp_path / "stagewise-1.partial" / kind).mkdir(parents=True)
        put(tmp_path / "stagewise-1.partial" / kind / "x", "folder", kind)
    (tmp_path / "stagewise-1.partial" / module.HELD).write_text(platform.node())
    if there:
        (tmp_path / "x").write_text("later")
    with publishing(tmp_path / "y") as place:
        place.touch()
    assert (tmp_path / "x" if there else tmp_path / "x" / "inside").read_text() == ("later" if there else "old")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x", "y"]


def test_what_is_replaced_in_two_steps_is_kept_if_somebody_is_faster(tmp_path, monkeypatch):
    put(path := tmp_path / "x", "folder", "old")
    monkeypatch.setattr(module.ctypes, "CDLL", lambda _: None)
    replace = os.replace

    def meanwhile(place, to):
        replace(place, to)
        if place == path:
            put(path, "folder", "mine")

    monkeypatch.setattr(os, "replace", meanwhile)
    with pytest.raises(ConfigError, match="what was there before is ") as raised, publishing(path) as place:
        put(place, "folder", "new")
    assert (path / "inside").read_text() == "mine"
    assert (Path(str(raised.value).partition("before is ")[2].rstrip(".")) / "inside").read_text() == "old"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_written_again_in_place_meanwhile_is_not_lost(tmp_path, kind):
    put(path := tmp_path / "x", kind, "old!")
    inside = path / "inside" if kind == "folder" else path
    with pytest.raises(ConfigError, match="written by somebody else meanwhile"), publishing(path) as place:
        put(place, kind, "new")
        inside.write_text("mine")  # as many bytes
    assert inside.read_text() == "mine"


@pytest.mark.parametrize("name", [".", "../x"])
def test_the_folder_where_one_is_can_be_replaced(tmp_path, monkeypatch, name):
    put(path := tmp_path / "x", "folder", "old")
    monkeypatch.chdir(path)
    with publishing(Path(name)) as place:
        put(place, "folder", "new")
    assert (path / "inside").read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
