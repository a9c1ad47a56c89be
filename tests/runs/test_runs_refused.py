"""What the system refuses to open for now says nothing of what lies there: nothing is given up or deleted for it."""

import errno
import os
import shutil

import pytest
from tiny import TinySpeech, results

from stagewise.cli.main import main
from stagewise.runs.folder import RunFolder
from stagewise.runs.records import mark_trained, read_trained
from stagewise.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("no_peaks")
REFUSALS = (errno.EMFILE, errno.EACCES, errno.EIO)


def refuse(monkeypatch, name, number):
    whole = os.open

    def opened(path, *arguments, **named):
        if str(path).endswith(name):
            raise OSError(number, os.strerror(number), path)
        return whole(path, *arguments, **named)

    monkeypatch.setattr(os, "open", opened)


@pytest.mark.parametrize("number", REFUSALS)
@pytest.mark.parametrize("name", ["stage.json", "pipeline.lock.json", "encoder.safetensors"])
def test_a_finished_run_stays_as_it_is(finished, tmp_path, monkeypatch, capsys, name, number):
    shutil.copytree(finished / "run", run := tmp_path / "run")
    before, lock = results(run), (run / "pipeline.lock.json").read_bytes()
    refuse(monkeypatch, name, number)
    with pytest.raises(SystemExit) as ended:
        main(["run", str(finished / "tiny.toml"), "--run", str(run)])
    monkeypatch.undo()
    words = capsys.readouterr().err
    damage = name == "encoder.safetensors" and number == errno.EIO
    assert ended.value.code == (3 if damage else 1), words
    assert damage or "Delete" not in words
    assert results(run) == before
    assert (run / "pipeline.lock.json").read_bytes() == lock


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES])  # a disk that fails in one slot may read the other
def test_a_checkpoint_is_not_given_up(tmp_path, monkeypatch, number):
    save_checkpoint(tmp_path, Checkpoint(1, {"epoch": 1}, {}))
    refuse(monkeypatch, "state.json", number)
    with pytest.raises(OSError, match=os.strerror(number)):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("number", REFUSALS)
def test_finished_training_is_not_forgotten(tmp_path, monkeypatch, number):
    facts = {"train": {}, "memory": {}, "health": None}
    for name in ("encoder.safetensors", "metrics.jsonl"):
        (tmp_path / name).write_bytes(b"")
    mark_trained(tmp_path, "0" * 64, {"train": {}}, facts)
    refuse(monkeypatch, "trained.json", number)
    with pytest.raises(OSError, match=os.strerror(number)):
        read_trained(tmp_path)


def test_the_lock_is_read_or_refused(finished, monkeypatch):
    refuse(monkeypatch, "pipeline.lock.json", errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        _ = RunFolder(finished / "run").locked


@pytest.mark.parametrize("command", [["probe"], ["probe", "speaker"], ["stage", "two", "--resume"]])
def test_what_other_data_does_not_allow_leaves_the_run_as_it_was(finished, tmp_path, monkeypatch, capsys, command):
    shutil.copytree(finished / "run", run := tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TinySpeech, "fingerprint", lambda _: "other")
    with pytest.raises(SystemExit) as ended:
        main([*command, "--run", str(run)])
    words = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2, words
    assert "stage one is not done (the data changed): type `stagewise stage one`, or `stagewise run FILE`." in words
    assert "trained again" not in words
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
