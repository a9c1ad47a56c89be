"""How long a whole run will take: what is estimated of the stages above, at the pace of the one under way."""

import io

import pytest
from rich.console import Console

from stagewise.cli import progress
from stagewise.cli.progress import Outlook
from stagewise.planning.duration import Duration

ESTIMATED = {"two": Duration(1.0, 200.0, 30.0), "three": Duration(2.0, 400.0, 50.0), "four": Duration(1.0, 100.0, 0.0)}


def outlook(in_sync=False):
    found = Outlook(in_sync)
    found.estimated = ESTIMATED
    return found


@pytest.mark.parametrize("slower", [0.5, 1.0, 3.0])
def test_the_stages_above_are_as_slow_as_this_one_is(slower):
    seen = outlook()
    assert seen.later("step", "two", slower) == pytest.approx(slower * (30 + 400 + 50 + 100))
    assert seen.later("encode", "two", 0.01) == pytest.approx(slower * (400 + 50 + 100))  # as its steps were
    assert seen.later("step", "three", 2 * slower) == pytest.approx(slower * (50 + 100))
    assert seen.later("encode", "four", 0.01) == 0.0
    assert seen.later("step", "one", 1.0) == 0.0  # which was not estimated


def test_stages_in_sync_are_trained_by_then_and_encoded_later():
    seen = outlook(in_sync=True)
    assert seen.later("step", "four", 2 * 4.0) == pytest.approx(2 * (30 + 50))
    assert seen.later("encode", "two", 0.01) == pytest.approx(2 * 50)


def test_it_is_told_where_it_is_a_minute_or_more(monkeypatch):
    now, text = [100.0], io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    pace = progress._Pace("birds", ["one", "two", "three", "four"])
    report = progress._Lines(Console(file=text, markup=False, emoji=False), pace)
    report("estimated", stages=ESTIMATED, probes=0.0)
    for step in (1, 2, 3):
        report("step", stage="two", epoch=1, epochs=1, step=step, steps=4, rows=80, loss=2.25, peak_bytes=0)
        now[0] += 61
    first, _, last = text.getvalue().splitlines()
    assert first == "3 stages to make: 13 minutes at most, roughly"
    assert last.endswith(" · 1 min 1 s left · all stages: 9.8 hours left")
    assert progress.finished_line("estimated", {"stages": {"four": Duration(1.0, 59.0, 0.0)}, "probes": 0.5}) is None
