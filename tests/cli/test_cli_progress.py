"""Progress as a terminal and as a log show it: where it is, how fast it goes, when it will be done."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import tiny
from rich.console import Console

from stagewise.cli import progress

REPO = Path(__file__).parents[2]
STEP = {"stage": "two", "epochs": 4, "steps": 5, "rows": 80, "loss": 2.25, "peak_bytes": 3 << 20}


@pytest.fixture
def clock(monkeypatch):
    """A clock that only a test moves."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def lines(clock, reports, seconds):
    """What a log gets of reports that come at equal times."""
    text = io.StringIO()
    report = progress._Lines(
        Console(file=text, markup=False, emoji=False), progress._Pace("birds", ["one", "two", "three"])
    )
    for kind, facts in reports:
        report(kind, **facts)
        clock[0] += seconds
    return text.getvalue().splitlines()


def steps(epoch, first=1, **other):
    return [("step", STEP | {"epoch": epoch, "step": step} | other) for step in range(first, 6)]


def test_a_log_gets_a_line_every_half_minute_with_all_facts(clock):
    found = lines(clock, [*steps(1), *steps(2)], 10)
    assert found == [
        "birds › two (2 of 3) › train: epoch 1 of 4 at most · loss 2.250 · 8 rows/s · 3.00 MiB · 2 min 40 s left",
        "birds › two (2 of 3) › train: epoch 2 of 4 at most · loss 2.250 · 8 rows/s · 3.00 MiB · 2 min 10 s left",
        "birds › two (2 of 3) › train: epoch 2 of 4 at most · loss 2.250 · 8 rows/s · 3.00 MiB · 1 min 40 s left",
    ]


def test_what_was_done_before_a_resume_is_no_speed(clock):
    (found,) = lines(clock, [("encode", {"stage": "one", "rows": n, "of": 10_000}) for n in (9_000, 9_400)], 80)
    words = r"birds › one \(1 of 3\) › encode: 9,400 of 10,000 rows · 5 rows/s · \S+ [MG]iB resident · 2 min 0 s left"
    assert re.fullmatch(words, found)


@pytest.mark.parametrize(
    ("kind", "facts", "words"),
    [
        (
            "probe",
            {"probe": "x", "stage": "one", "items": 3, "of": 8},
            "probe x on one (1 of 3) › read its rows: 3 of 8",
        ),
        ("fit", {"probe": "x", "stage": "one", "epoch": 3, "of": 8}, "probe x on one (1 of 3) › fit: 3 of 8 epochs"),
        ("verify", {"stage": "one", "bytes": 3000, "of": 8000}, "one (1 of 3) › verify: 2.93 KiB of 7.81 KiB"),
        ("look", {"what": "audio", "files": 300, "of": 8000}, "look at audio: 300 of 8,000 files"),
        ("encode", {"stage": "[red]\x1b[31m", "rows": 3, "of": 8}, "[red]\N{REPLACEMENT CHARACTER}[31m › encode: 3 of"),
    ],
)
def test_everything_that_takes_long_is_told(clock, kind, facts, words):
    (found,) = lines(clock, [("note", {"text": "x"}), (kind, facts)], 70)[1:]
    assert found.startswith(f"birds › {words}")
    assert "left" not in found  # one report tells no speed


def test_a_stage_that_was_not_updated_yet_in_an_epoch_has_no_loss(clock):
    (found,) = lines(clock, [("note", {"text": "x"}), *steps(2, first=5, loss=None)], 70)[1:]
    assert found == "birds › two (2 of 3) › train: epoch 2 of 4 at most · 3.00 MiB"


def test_stages_in_sync_are_told_together(clock):
    text = io.StringIO()
    pace = progress._Pace("birds", ["one", "two", "three"], "one to three")
    report = progress._Lines(Console(file=text, width=200), pace)
    clock[0] += 70
    report("step", **STEP | {"stage": "three", "epoch": 1, "step": 1})
    assert text.getvalue() == "birds › one to three › train: epoch 1 of 4 at most · loss of three 2.250 · 3.00 MiB\n"


def test_words_of_files_are_printed_as_they_are(clock):
    assert lines(clock, [("note", {"text": "left out [red]a[/red].wav\x1b[2J: :wave:"})], 1) == [
        "left out [red]a[/red].wav\N{REPLACEMENT CHARACTER}[2J: :wave:"
    ]


def test_no_time_is_left_at_the_end(clock):
    *_, last = lines(clock, steps(4), 70)
    assert last.endswith("MiB")


@pytest.mark.parametrize(
    ("information", "words"), [(-0.004, " (0.2 s)"), (0.148, ", 0.15 nats below guessing (0.2 s)")]
)
def test_a_bound_that_says_nothing_is_not_told(information, words):
    facts = {"stage": "one", "epoch": 0, "seconds": 0.2, "validation_loss": 2.5, "validation_information": information}
    assert progress.finished_line("epoch", facts) == f"one › epoch 0: validation loss 2.500{words}"


@pytest.mark.parametrize(("told", "found"), [([], "planning …\n"), (["one › train"], "one › train\n")])
def test_a_silence_is_broken(told, found, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SILENT_SECONDS", 0.3)
    with progress.terminal_report(silence="planning …") as report:
        for text in told:
            report("note", text=text)
        time.sleep(0.6)
    assert capsys.readouterr().err == found


def on_a_terminal(command, cwd, columns):
    """What a program writes to a terminal of some columns."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    env |= {"PYTHONPATH": os.pathsep.join([str(REPO), str(REPO / "tests")]), "TERM": "xterm-256color"}
    child = subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=theirs, env=env)
    os.close(theirs)
    found = b""
    try:
        while piece := os.read(ours, 65536):
            found += piece
    except OSError:  # Linux says so that the other end was closed
        pass
    os.close(ours)
    assert child.wait(timeout=60) == 0, found
    return found.decode()


@pytest.mark.parametrize("columns", [40, 80])
def test_a_terminal_shows_pipeline_stage_epoch_loss_speed_memory_and_time_left(tmp_path, columns):
    code = """if True:
        import time
        from stagewise.cli.progress import terminal_report
        with terminal_report("birds", ["one", "two"], silence="planning …") as report:
            time.sleep(1.3)
            step = dict(stage="two", epoch=1, epochs=2, steps=4, rows=64, loss=2.5, peak_bytes=9 << 20)
            for number in range(1, 5):
                report("step", step=number, **step)
                time.sleep(0.4)
            report("note", text="two › [bold]done[/bold]")
    """
    text = on_a_terminal([sys.executable, "-c", code], tmp_path, columns)
    words = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", " ", text).split())
    assert "birds › two (2 of 2) › train" in words
    assert "epoch 1 of 2 at most · loss 2.500" in words
    assert re.search(r"· \d+ rows/s · 9\.00 MiB · [\d.]+ s left", words)
    assert "50 % done" in words
    assert "two › [bold]done[/bold]" in words
    assert "planning …" in words
    assert "…" not in words.replace("planning …", "")


@pytest.mark.slow
def test_a_run_on_a_terminal_names_its_pipeline_and_stages(tmp_path):
    tiny.write_pipeline(tmp_path)
    command = [sys.executable, "-m", "stagewise", "run", "tiny.toml", "--until", "one"]
    words = " ".join(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", " ", on_a_terminal(command, tmp_path, 80)).split())
    assert re.search(r"tiny › \w+ \([123] of 3\) › (train|encode)|tiny › \w+ on \w+ \([123] of 3\)", words)
    assert "one › done after 2 epochs" in words
