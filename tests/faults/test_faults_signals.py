"""A signal in any phase of a run: it ends with the right words and exit code, and goes on to the same bytes."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
import threading
from pathlib import Path

import psutil
import pytest
import tiny
from in_process import signals_at, stagewise

pytestmark = pytest.mark.usefixtures("no_peaks")

REPO = Path(__file__).parents[2]
PHASES = ("step", "encode", "probe", "fit")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_any_phase(finished, tmp_path, monkeypatch, number):
    """Stopped in training, encoding and probing, one after another, the run ends with the same bytes."""
    command, others = ("run", finished / "tiny.toml", "--run", tmp_path / "run"), psutil.Process().children()
    for phase in PHASES:
        with monkeypatch.context() as patch:
            signals_at(patch, phase, number)
            code, words = stagewise(*command)
        assert code == 128 + number, (phase, words)
        assert f"stopped by {number.name}" in words
        assert "Type the same command again" in words
        assert not [t.name for t in threading.enumerate() if t.name.startswith(("stagewise-", "store-"))]
    assert psutil.Process().children() == others
    assert stagewise(*command)[0] == 0
    assert tiny.results(tmp_path / "run") == tiny.results(finished / "run")


@pytest.mark.parametrize("phase", PHASES)
def test_a_second_signal_ends_at_once(finished, tmp_path, monkeypatch, phase):
    command = ("run", finished / "tiny.toml", "--run", tmp_path / "run")
    with monkeypatch.context() as patch:
        signals_at(patch, phase, signal.SIGINT, signal.SIGINT)
        code, words = stagewise(*command)
    assert code == 130
    assert "stopped at once by a second SIGINT" in words
    assert stagewise(*command)[0] == 0
    assert tiny.results(tmp_path / "run") == tiny.results(finished / "run")


def start(folder, *arguments, **kwargs):
    tiny.write_pipeline(folder)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), str(REPO / "tests")])}
    command = [sys.executable, "-m", "stagewise", "run", "tiny.toml", *arguments]
    return subprocess.Popen(command, cwd=folder, env=env, **kwargs)


@pytest.mark.slow
def test_a_terminal_that_is_closed(tmp_path):
    """SIGHUP comes, and nothing can be said any more: a checkpoint is written all the same."""
    ours, theirs = os.openpty()
    child = start(
        tmp_path, "--set", "defaults.train.epochs=4000", "--set", "defaults.train.patience=4000",
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while not re.search(rb"epoch \d+ of", seen):  # the first ones may be over before the terminal is drawn again
        seen += os.read(ours, 4096)
    os.close(ours)
    assert child.wait(timeout=200) == 128 + signal.SIGHUP
    states = [
        json.loads(path.read_bytes()) for path in tmp_path.glob("runs/tiny/stages/1-one-*/checkpoint/?/state.json")
    ]
    assert max(state["progress"]["steps"] for state in states) > 0


@pytest.mark.slow
def test_nobody_reads_the_progress(tmp_path):
    """A pipe whose reader has gone does not end a run, nor change its exit code."""
    child = start(tmp_path, "--until", "one", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    child.stderr.close()
    assert child.wait(timeout=200) == 0
    assert list(tmp_path.glob("runs/tiny/stages/1-one-*/stage.json"))
