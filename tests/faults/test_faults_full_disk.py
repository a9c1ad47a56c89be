"""A full disk in any phase is said in words, harms nothing that was committed, and with room the run ends the same."""

import subprocess
from pathlib import Path

import pytest
import tiny
from in_process import stagewise, told

pytestmark = pytest.mark.usefixtures("no_peaks")

SETS = ("--set", "defaults.train.checkpoint=0 s")  # after every step
PHASES = ("step", "epoch", "encode", "probe", "fit")


@pytest.fixture
def disk(tmp_path):
    """A disk of 3 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no `mount` here")
    if done.returncode:
        pytest.skip(f"no disk can be mounted here ({done.stderr.strip()})")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # readers may still hold a store open


def fill(disk: Path) -> Path:
    """Leave no room at all."""
    balloon = disk / "balloon"
    with balloon.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return balloon


def full_at(monkeypatch, disk, phase):
    """Fill the disk when a phase reports for the first time."""

    def tell(kind, **_):
        if kind == phase and not (disk / "balloon").exists():
            fill(disk)

    told(monkeypatch, tell)


def unpublished(run):
    return [path for path in run.rglob("*") if ".partial" in path.name or ".trash" in path.name]


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calm")
    code, words = stagewise("run", tiny.write_pipeline(folder), "--run", folder / "run", *SETS)
    assert code == 0, words
    return tiny.results(folder / "run")


@pytest.mark.parametrize("phase", PHASES)
def test_a_disk_that_is_full(disk, tmp_path, monkeypatch, calm, phase):
    run, file = disk / "run", tiny.write_pipeline(tmp_path)
    with monkeypatch.context() as patch:
        full_at(patch, disk, phase)
        code, words = stagewise("run", file, "--run", run, *SETS)
    assert code == 1, words
    assert f"disk full at {run}" in words
    assert "free some space, then type the same command again" in words
    assert ("The rest of this store needs up to" in words) == (phase == "encode")
    code, words = stagewise("verify", run)
    assert code == 0, words  # what is there is whole
    (disk / "balloon").unlink()
    code, words = stagewise("run", file, "--run", run, *SETS)
    assert code == 0, words
    if phase == "epoch":
        assert "starts again" not in words
    assert tiny.results(run) == calm
    assert unpublished(run) == []


def test_a_checkpoint_that_has_no_room_leaves_the_one_before(disk, tmp_path, monkeypatch):
    """At most one step is trained again."""
    run, file, steps = disk / "run", tiny.write_pipeline(tmp_path), []

    def tell(kind, **facts):
        if kind == "step":
            steps.append((facts["stage"], facts["epoch"], facts["step"]))
            if len(steps) == 2:
                fill(disk)

    told(monkeypatch, tell)
    assert stagewise("run", file, "--run", run, "--until", "one", *SETS)[0] == 1
    (disk / "balloon").unlink()
    assert stagewise("run", file, "--run", run, "--until", "one", *SETS)[0] == 0
    assert len(steps) - len(set(steps)) == 1


def test_how_much_more_a_store_needs(disk, tmp_path):
    """It is said before its first row is computed, and once the disk is full."""
    run, file = disk / "run", tiny.write_pipeline(tmp_path)
    keys = ("data.seconds=4", "defaults.store.dtype=float32", "defaults.train.epochs=1")
    keys += ("stage.one.store.write=true", "stage.one.store.compress=none")
    sets = [word for key in keys for word in ("--set", key)]
    code, words = stagewise("plan", file, "--run", run, *sets)
    assert code == 0, words
    assert "warning: the stores need" in words.replace("\n", " ")
    code, words = stagewise("run", file, "--run", run, *sets)
    assert code == 1
    assert "stage one: its store needs up to" in words
    assert f"disk full at {run}" in words
    assert "The rest of this store needs up to" in words
    assert [p.name for p in run.glob("stages/*/trained.json")] == ["trained.json"]  # nothing is trained again


def test_a_disk_that_is_full_from_the_start(disk, tmp_path):
    file = tiny.write_pipeline(tmp_path)
    fill(disk)
    code, words = stagewise("run", file, "--run", disk / "run")
    assert code == 1
    assert f"disk full at {disk / 'run'}" in words
