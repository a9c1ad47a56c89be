"""Where words go to: streams that are closed, full or narrow, places that cannot be written; never a traceback."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import stagewise as package
from stagewise.cli.main import main
from stagewise.cli.progress import terminal_report
from stagewise.text import bytes_text

REPO = Path(__file__).parents[2]
SHELL = f"{sys.executable} -m stagewise"


def stagewise(*arguments):
    """Exit code and words of a command that is carried out in this process."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert "unforeseen" not in done.output
    return done.exit_code, done.output


def shell(line, cwd):
    """Exit code and words of a line that bash carries out; `stagewise` is ours."""
    path = os.pathsep.join([str(REPO), str(REPO / "tests")])
    line = f'set -o pipefail; stagewise() {{ {SHELL} "$@"; }}; {line}'
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(["bash", "-c", line], cwd=cwd, capture_output=True, text=True, timeout=240, env=env)
    assert "Traceback" not in done.stderr
    assert "unforeseen" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(finished):
    return finished


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("stagewise inspect run | head -1", 0, ""),
        ("stagewise inspect run --json | head -c 10", 0, ""),
        ("stagewise inspect run >&-", 0, ""),
        ("stagewise inspect run --json <&- >&- 2>&-", 0, ""),
        ("stagewise inspect nowhere 2>&-", 2, ""),
        ("stagewise inspect nowhere 2>/dev/full", 2, ""),
        ("stagewise inspct 2>/dev/full", 2, ""),
        ("stagewise inspect run --json >/dev/full", 1, "the output cannot be written"),
        ("stagewise inspect run >/dev/full", 1, "the output cannot be written"),
        ("PYTHONIOENCODING=ascii stagewise inspect run", 0, ""),
        ("env -u HOME -u USER -u TERM " + SHELL + " inspect run", 0, ""),
    ],
)
def test_streams_that_are_closed_or_full(folder, line, code, words):
    if "/dev/full" in line and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    done = shell(line, folder)
    assert done[0] == code
    assert words in done[2]
    assert bool(words) == bool(done[2])


def test_a_closed_stream_is_never_a_file_of_the_run(folder, tmp_path):
    """What is said to a number that was closed must not end in a file that got that number."""
    code = "import os, stagewise.cli.main as m; m._prepare_streams(); assert os.open('x', os.O_CREAT) > 2"
    done = shell(f'{sys.executable} -c "{code}" <&- >&- 2>&-', tmp_path)
    assert done[0] == 0


class Broken(io.StringIO):
    """A stream on which nothing can be said."""

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self):
        raise BrokenPipeError(32, "Broken pipe")


def test_progress_that_nobody_hears_ends_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Broken())
    with terminal_report() as report:
        report("note", text="something")
        report("epoch", stage="one", epoch=0, epochs=2, steps=0, validation_loss=1.0, seconds=0.1)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_tables_at_any_width(folder, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    whole = stagewise("inspect", folder / "run")[1]
    planned = stagewise("plan", folder / "tiny.toml", "--run", folder / "run")[1]
    assert "…" not in whole + planned
    first = package.open(folder / "run").facts["stages"][0]
    losses = f"{first['train']['initial_loss']:.3f} → {first['train']['validation_loss']:.3f}"
    for text in (losses, bytes_text(first["memory"]["measured_peak_bytes"]), "speaker", "most frequent class"):
        assert text in " ".join(whole.split())
    assert "cached" in planned
    monkeypatch.chdir(folder)
    assert max(map(len, stagewise("inspect", "run")[1].splitlines())) <= width


def test_a_report_goes_into_a_new_folder_but_not_below_a_file(folder, tmp_path):
    place = tmp_path / "new" / "folder" / "report.html"
    assert stagewise("report", folder / "run", "--out", place)[0] == 0
    assert place.read_text().startswith("<!doctype html>")
    code, words = stagewise("report", folder / "run", "--out", place / "x.html")
    assert code == 2
    assert f"{place} is a file, no folder. Name another place with --out" in words
    code, words = stagewise("report", folder / "run", "--out", place.parent)
    assert code == 2
    assert "is a folder: name a file" in words


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_run_cannot_lie_in_a_file(folder, tmp_path, place):
    (tmp_path / "file").write_text("mine")
    code, words = stagewise("run", folder / "tiny.toml", "--run", tmp_path / place)
    assert code == 2
    assert "file: name another folder with --run" in words
    assert (tmp_path / "file").read_text() == "mine"


def test_compare_shows_whole_runs_beside_a_damaged_one(folder, tmp_path):
    for name in ("first", "second"):
        shutil.copytree(folder / "run", tmp_path / name)
    (path,) = tmp_path.glob("first/stages/1-*/encoder.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    code, words = stagewise("compare", tmp_path / "first", tmp_path / "second", "--json")
    assert code == 3
    assert str(tmp_path / "second") in words
    assert f"{path} is not what was written" in words
    assert "left out: 1 of 2 runs" in words


def test_compare_sends_no_control_characters_of_names(folder, tmp_path):
    run, empty = tmp_path / "run\x1b[2J", tmp_path / "empty\x1b[2J"
    shutil.copytree(folder / "run", run)
    empty.mkdir()
    for how in ((), ("--markdown",)):
        code, words = stagewise("compare", run, empty, *how)
        assert code == 0
        assert "warning: " in words
        assert words.count("\N{REPLACEMENT CHARACTER}") == 2
        assert "\x1b" not in words


def test_the_last_run_may_be_called_last(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder / "run", tmp_path / "runs" / "last")
    code, words = stagewise("inspect", "--json")
    assert code == 0
    assert '"run": "runs/last"' in words
