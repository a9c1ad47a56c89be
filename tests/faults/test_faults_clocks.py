"""Clocks that jump, files from the future and other time zones decide nothing."""

import os
import random
import signal
import time
from pathlib import Path

import tiny
from in_process import signals_at, stagewise

import stagewise as package

REPO = Path(__file__).parents[2]


def test_clocks_and_time_zones_decide_nothing(finished, tmp_path, monkeypatch, no_peaks_here):
    """The clock jumps by a year either way at every look, files come from the future, the time zone changes."""
    command = ("run", finished / "tiny.toml", "--run", tmp_path / "run")
    rng, year, clock, steady, passed = random.Random(0), 366 * 86400, time.time, time.monotonic, [0]

    def jumping():
        return clock() + rng.choice((-year, year))

    def leaping():
        passed[0] += year
        return steady() + passed[0]

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "monotonic", leaping)
    monkeypatch.setattr(time, "perf_counter", leaping)
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")
    time.tzset()
    try:
        with monkeypatch.context() as patch:
            signals_at(patch, "encode", signal.SIGTERM)
            assert stagewise(*command)[0] == 143
        for path in (tmp_path / "run").rglob("*"):
            os.utime(path, (clock() + 50 * year, clock() + 50 * year))
        monkeypatch.setenv("TZ", "Pacific/Niue")
        time.tzset()
        assert stagewise(*command)[0] == 0
        before = {path: path.stat().st_ino for path in (tmp_path / "run" / "stages").rglob("*")}
        assert stagewise(*command)[0] == 0
    finally:
        monkeypatch.undo()
        time.tzset()
    assert {path: path.stat().st_ino for path in (tmp_path / "run" / "stages").rglob("*")} == before
    assert tiny.results(tmp_path / "run") == tiny.results(finished / "run")
    times = [stage["train"]["seconds"] for stage in package.open(tmp_path / "run").facts["stages"]]
    assert all(seconds >= 0 for seconds in times)


def test_no_decision_looks_at_the_time_of_day():
    """Neither at the clock that may be set back, nor at the times of files."""
    for path in {*(REPO / "stagewise").rglob("*.py")} - {
        REPO / "stagewise/cli/event_file.py",  # it only writes it down
        REPO / "stagewise/durable.py",  # whether a file was written meanwhile: the same time or another, not when
    }:
        text = path.read_text()
        assert not [
            word for word in ("time.time(", "st_mtime", "getmtime", "st_ctime", "datetime.now") if word in text
        ], path
