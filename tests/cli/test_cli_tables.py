"""Tables of facts: whole words and figures at any width, and names as they are."""

import copy
import re

import pytest

import stagewise
from stagewise.cli.tables import print_plan, print_run
from stagewise.planning.facts import plan_facts
from stagewise.runner import plan_pipeline
from stagewise.runs.folder import RunFolder, pipeline_of

HOSTILE = "[red]a[/red]\x1b[2J:wave:"
SHOWN = "[red]a[/red]\N{REPLACEMENT CHARACTER}[2J:wave:"


@pytest.fixture(scope="module")
def run(finished):
    return RunFolder(finished / "run")


@pytest.fixture(scope="module")
def facts(run):
    """Facts with the widest figures that a long training of a large network has."""
    facts = copy.deepcopy(stagewise.open(run.path).facts) | {"run": "runs/tiny"}
    for stage in facts["stages"]:
        stage["train"] |= {"epochs": 1000, "converged": False, "seconds": 360_000.0, "initial_loss": 12.345}
        stage["memory"]["measured_peak_bytes"] = 106 << 30
        stage["store"] |= {"state": "written", "bytes": 999 << 30}
        stage["health"]["warnings"] = []  # two epochs hardly move a loss
    return facts


def printed(capsys, monkeypatch, columns, print_facts, facts):
    monkeypatch.setenv("COLUMNS", str(columns))
    print_facts(facts)
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_widest_figures_are_whole(facts, capsys, monkeypatch, columns):
    text = printed(capsys, monkeypatch, columns, print_run, facts)
    assert max(map(len, text.splitlines())) <= columns
    for stage in facts["stages"]:
        figures = [f"12.345 → {stage['train']['validation_loss']:.3f}", "1,000/2", "100:00:", "106 GiB", "999 GiB"]
        assert all(figure in text for figure in figures)
    table = [line for line in text.splitlines() if "1,000/2" in line]
    assert "…" not in text
    if columns >= 80:  # one row a stage, and figures end below each other
        assert len(table) == len(facts["stages"])
        assert len({line.index("106 GiB") for line in table}) == 1
        assert len({len(line.rstrip()) for line in table}) == 1


def test_what_a_probe_is_worth(facts, capsys, monkeypatch):
    changed = copy.deepcopy(facts)
    for stage in changed["stages"]:
        stage["train"]["information"] = 0.5
    for probe in changed["probes"]:
        probe |= {"words": "better than before training", "random": None}
    text = printed(capsys, monkeypatch, 100, print_run, changed)
    assert "before: on the same stages" not in text
    assert "warning" not in text
    for probe in changed["probes"]:
        if probe["name"] == "speaker":
            probe |= {"words": "worse than before training", "random": {"value": 0.123, "interval": [0.0, 1.0]}}
    text = printed(capsys, monkeypatch, 100, print_run, changed)
    assert "0.123" in text
    text = " ".join(text.split())
    assert "before training: on the same stages then, read alike; better or worse:" in text
    assert "over the test items; another seed would train other stages, and no interval holds that." in text
    assert "warning: speaker on one, two, context is worse than before training: train" in text
    changed["stages"][1]["train"] |= {"information": -0.1, "validation_loss": 2.5}
    text = printed(capsys, monkeypatch, 200, print_run, changed)
    assert "warning: two: its loss, 2.500, is above that of guessing, 2.400: train it for more epochs" in text


def test_what_stages_did_without_is_said(facts, capsys, monkeypatch):
    changed = copy.deepcopy(facts)
    changed["stages"][0]["train"]["skipped_items"] = 3
    changed["stages"][1]["train"]["skipped_items"] = 1
    for stage, cut in zip(changed["stages"], (0, 999, 1001), strict=True):
        stage["store"] |= {"saturated": cut, "float32_bytes": 4_000_000}
    text = printed(capsys, monkeypatch, 200, print_run, changed)
    assert "one: 3 training items are too short for a window, and were encoded but not trained on." in text
    assert "two: 1 training item is too short for a window, and was encoded but not trained on." in text
    assert "context: 0.10% of the values of its store lie outside the range that int8 was calibrated for" in text
    assert text.count("outside the range") == 1
    assert "too short" not in printed(capsys, monkeypatch, 200, print_run, facts)


def test_names_are_printed_as_they_are(run, facts, capsys, monkeypatch):
    changed = copy.deepcopy(facts) | {"run": f"runs/{HOSTILE}"}
    changed["stages"][0] |= {"name": HOSTILE, "health": {"warnings": [f"{HOSTILE} is dead"]}}
    changed["stages"][0]["train"]["information"] = 0.5
    changed["probes"][0]["name"] = HOSTILE
    changed["data"] = {"skipped": [{"key": f"{HOSTILE}.wav", "reason": "empty"}]}
    text = printed(capsys, monkeypatch, 200, print_run, changed)
    assert f"runs/{SHOWN}: complete" in text
    assert f"1 {SHOWN} " in text
    assert f"warning: {SHOWN}: {SHOWN} is dead" in text
    assert f"such as {SHOWN}.wav (empty)" in text
    assert text.count(SHOWN) == 7 + (changed["probes"][0]["words"] != "")
    assert "\x1b" not in text
    planned = plan_facts(plan_pipeline(pipeline_of(run), run)) | {"run": HOSTILE}
    planned["data"]["source"] = HOSTILE
    every = {"name": HOSTILE, "stages": "all", "labels": "speaker", "random": True}
    planned["probes"] = [every, {**every, "name": "some", "stages": ["one", "two"], "random": False}]
    text = printed(capsys, monkeypatch, 200, print_plan, planned)
    assert f"plan for {SHOWN}" in text
    assert f"samples ({SHOWN})" in text
    assert re.search(r"computed on cpu with \d+ threads?, in float32\.", text)
    read = "label 'speaker', read from"
    assert f"probe {SHOWN}: {read} every stage, and from the same stages before training." in text
    assert f"probe some: {read} one, two." in text


def test_no_colour_where_none_is_wanted(facts, capsys, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("FORCE_COLOR", "1")
    changed = copy.deepcopy(facts)
    changed["stages"][0]["health"] = {"warnings": ["dead"]}
    text = printed(capsys, monkeypatch, 80, print_run, changed)
    assert "\x1b[3" not in text.replace("\x1b[3m", "")  # italic is no colour


def test_states_of_an_unfinished_run_are_explained(facts, capsys, monkeypatch):
    changed = copy.deepcopy(facts)
    assert "goes on." not in printed(capsys, monkeypatch, 200, print_run, changed)
    changed["stages"][1]["state"], changed["stages"][2]["state"] = "partial", "empty"
    text = printed(capsys, monkeypatch, 80, print_run, changed)
    lines = [line.split() for line in text.splitlines()]
    assert ["2", "two", "begun"] in [line[:3] for line in lines]
    assert ["3", "context", "not", "begun"] in [line[:4] for line in lines]
    assert "The command that made it, with its --set, goes on." in " ".join(text.split())
    assert "after epoch" not in text
    changed["stages"][1]["train"] |= {"loss": None, "epochs": 7}
    assert "after epoch 7" in printed(capsys, monkeypatch, 200, print_run, changed)
