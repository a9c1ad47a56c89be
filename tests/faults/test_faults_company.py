"""A run among others: a second process, links, a moved or read-only folder, `clean`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from in_process import signals_at, stagewise, told

import stagewise as package
from stagewise import durable
from stagewise.runs.clean import unused
from stagewise.runs.folder import RunFolder
from stagewise.runs.records import mark_dropped, read_record

pytestmark = pytest.mark.usefixtures("no_peaks")

REPO = Path(__file__).parents[2]
READING = (
    ("inspect", "RUN", "--json"),
    ("verify", "RUN"),
    ("plan", "FILE", "--run", "RUN"),
    ("report", "RUN", "--out", "OUT"),
    ("compare", "RUN", "--json"),
)


def reading(finished, run, out):
    """Carry out every command that reads."""
    places = {"RUN": run, "FILE": finished / "tiny.toml", "OUT": out}
    for command in READING:
        code, words = stagewise(*(places.get(word, word) for word in command))
        assert code == 0, (command, words)
    read = package.open(run)
    assert read.stages["two"].store[0].ndim == 2
    assert read.encoder("context").hop == 40


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "run")
    return tmp_path / "run"


def test_a_second_writer_is_refused_at_once_and_readers_are_not(finished, run, tmp_path):
    with RunFolder(run).writing():
        for command in (
            ("run", finished / "tiny.toml", "--run", run),
            ("probe", "--run", run),
            ("stage", "1", "--run", run),
        ):
            begun = time.monotonic()
            code, words = stagewise(*command)
            assert code == 1
            assert f"is in use by pid {os.getpid()} on host" in words
            assert time.monotonic() - begun < 20  # at once: it does not wait
        reading(finished, run, tmp_path / "report.html")
    assert not (run / "run.holder.json").exists()
    assert stagewise("run", finished / "tiny.toml", "--run", run)[0] == 0


def test_reading_goes_on_while_another_process_writes(finished, run):
    """Stages are made again and stores dropped under the eyes of `inspect`, which says 0 at every moment."""
    sets = ("stage.two.objective.negatives=5", "stage.two.store.keep=false", "stage.one.store.keep=false")
    command = [sys.executable, "-m", "stagewise", "run", str(finished / "tiny.toml"), "--run", str(run)]
    env = {**os.environ, "PYTHONPATH": str(REPO / "tests")}
    options = [word for text in sets for word in ("--set", text)]
    writer, looks, seen = subprocess.Popen([*command, *options], env=env, stderr=subprocess.DEVNULL), 0, set()
    while writer.poll() is None:
        code, words = stagewise("inspect", run, "--json")
        assert code == 0, words
        seen.add(json.loads(words[words.index("{") :])["state"])
        looks += 1
    assert writer.returncode == 0
    assert looks > 3
    assert seen == {"complete", "partial"}


def test_a_store_that_is_dropped_while_its_record_is_read(run, monkeypatch):
    (folder,) = run.glob("stages/2-two-*")
    manifest, true = folder / "store.manifest.json", durable.sha256_of
    assert read_record(folder)["store"]["state"] == "written"

    def drop(path):
        if manifest.exists():
            mark_dropped(folder, durable.read_sealed(folder / "stage.json", ""))
            manifest.unlink()
        return true(path)

    monkeypatch.setattr(durable, "sha256_of", drop)
    assert read_record(folder)["store"]["state"] == "dropped"


def test_a_run_is_moved_and_copied_in_between(finished, tmp_path, monkeypatch):
    (tmp_path / "old").mkdir()
    with monkeypatch.context() as patch:
        signals_at(patch, "encode", signal.SIGTERM)
        assert stagewise("run", finished / "tiny.toml", "--run", tmp_path / "old" / "run")[0] == 143
    (tmp_path / "old").rename(tmp_path / "new")
    shutil.move(tmp_path / "new" / "run", tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", tmp_path / "copied")
    for name in ("moved", "copied"):
        code, words = stagewise("run", finished / "tiny.toml", "--run", tmp_path / name)
        assert code == 0
        assert "one › train" not in words  # what was trained is used
        assert tiny.results(tmp_path / name) == tiny.results(finished / "run")


def test_a_read_only_run_is_read(finished, run, tmp_path):
    """By every command that reads; those that write say so before anything is computed."""
    bind = ["mount", "--bind", str(run), str(run)]
    if shutil.which("mount") is None or subprocess.run(bind, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(run)], check=True)
        reading(finished, run, tmp_path / "report.html")
        kinds = []
        with pytest.MonkeyPatch.context() as patch:
            told(patch, lambda kind, **_: kinds.append(kind))
            code, words = stagewise("run", finished / "tiny.toml", "--run", run, "--set", "pipeline.seed=1")
        assert code == 1
        assert f"cannot write {run}" in words
        assert "make its folder writable, or name another one" in words
        assert kinds == []
    finally:
        subprocess.run(["umount", "--lazy", str(run)], check=True)


@pytest.mark.parametrize(
    "place",
    ["stages", "probes", "stages/1-*", "stages/2-*/store.zarr", "stages/1-*/encoder.safetensors", "run.lock", "new"],
)
def test_a_link_inside_a_run_is_not_followed(finished, run, tmp_path, place):
    (path,) = run.glob(place) if place != "new" else [run / "stages" / ".trash-x"]
    elsewhere = tmp_path / "elsewhere"
    if place == "new":
        shutil.copytree(run / "probes", elsewhere)
    else:
        shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)
    before = {p: p.stat().st_mtime_ns for p in (elsewhere, *elsewhere.rglob("*"))}
    for command in (
        ("run", finished / "tiny.toml", "--run", run),
        ("run", finished / "tiny.toml", "--run", run, "--fresh"),
        ("stage", "2", "--run", run),
        ("clean", run, "--yes"),
    ):
        code, words = stagewise(*command)
        assert {p: p.stat().st_mtime_ns for p in (elsewhere, *elsewhere.rglob("*"))} == before
        if command[0] != "clean" or "nothing to delete" not in words:
            assert code in (2, 3), words
    assert f"{path} is a symbolic link" in stagewise("run", finished / "tiny.toml", "--run", run)[1]


def test_the_run_directory_itself_may_be_a_link(finished, tmp_path, monkeypatch):
    """Also the folder of all runs, and commands without a run find the last one."""
    (tmp_path / "large-disk").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "runs").symlink_to(tmp_path / "large-disk")
    shutil.copytree(finished / "run", tmp_path / "large-disk" / "elsewhere")
    (tmp_path / "home" / "runs" / "tiny").symlink_to("elsewhere")
    monkeypatch.chdir(tmp_path / "home")
    assert stagewise("run", finished / "tiny.toml")[0] == 0
    code, words = stagewise("inspect", "--json")
    assert code == 0
    assert json.loads(words)["run"] == "runs/tiny"


class Killed(BaseException):
    """Stands for SIGKILL."""


def kill_at(monkeypatch, number):
    """Raise Killed instead of the N-th operation that renames, deletes or forces to the disk."""
    done = []

    def counted(real):
        def operation(*args, **kwargs):
            done.append(real)
            if len(done) == number:
                raise Killed
            return real(*args, **kwargs)

        return operation

    for name in ("replace", "unlink", "rmdir", "fsync"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


def stale(run):
    """Folders of stages that `clean` would delete."""
    return [path for path in unused(RunFolder(run)) if path.parent.name == "stages"]


def test_a_kill_in_clean(finished, run, monkeypatch):
    """At whatever operation it comes, a folder is whole, or listed, or gone; and the next `clean` deletes it."""
    package.run(finished / "tiny.toml", run=run, set={"stage.context.objective.negatives": 5})
    whole = {path: set(path.rglob("*")) for path in unused(RunFolder(run))}
    kept = set(run.rglob("*")).difference(whole, *whole.values())
    assert len(stale(run)) == 1
    number, killed = 0, True
    while killed:
        number, killed = number + 1, False
        with monkeypatch.context() as patch:
            kill_at(patch, number)
            try:
                assert stagewise("clean", run, "--yes")[0] == 0
            except Killed:
                killed = True
        assert package.open(run).facts["state"] == "complete"
        assert all(set(path.rglob("*")) in (set(), files) for path, files in whole.items())
        assert len(list((run / "stages").iterdir())) == 3 + len(stale(run))
    assert number > 8
    assert stagewise("verify", run)[0] == 0
    assert stagewise("clean", run)[1] == f"{run}: nothing to delete.\n"
    assert set(run.rglob("*")) == kept


def test_clean_deletes_nothing_that_has_come_into_use(finished, run, monkeypatch):
    """Another process takes up the old settings again while `clean` asks."""
    package.run(finished / "tiny.toml", run=run, set={"stage.context.objective.negatives": 5})
    old = stale(run)

    def answer(*_, **__):
        package.run(finished / "tiny.toml", run=run)
        return True

    monkeypatch.setattr("click.confirm", answer)
    assert stagewise("clean", run)[0] == 0
    assert all(p.exists() for p in old)
    assert tiny.results(run).items() >= tiny.results(finished / "run").items()
