"""What a plan says of stages that are there: finished with other settings, or half trained."""

import shutil

import pytest

from stagewise import durable
from stagewise.pipeline import load_pipeline, load_text
from stagewise.planning.facts import plan_facts
from stagewise.runner import make, plan_pipeline, quiet
from stagewise.runs.folder import RunFolder
from stagewise.runs.records import epochs_done

pytestmark = pytest.mark.usefixtures("no_peaks")


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "my run")
    return RunFolder(tmp_path / "my run")


def planned(finished, run, **sets):
    return plan_pipeline(load_pipeline(finished / "tiny.toml", sets), run)


def test_finished_stages_that_are_trained_anew_are_named_before_they_go_out_of_reach(finished, run):
    change = {"stage.two.train.epochs": 3}
    (warning,) = plan_facts(planned(finished, run, **change))["warnings"]
    words = "finished stages are trained again: two, context (train.epochs: 2 → 3). The old ones stay in "
    assert warning.startswith(words)
    assert f"`stagewise export '{run.path}' --out DIR`" in warning
    assert "--run" in warning
    told = []

    def report(kind, **facts):
        told.append(facts.get("text", kind))

    make(load_pipeline(finished / "tiny.toml", change), run, report, until="one")
    assert told == [warning, "nothing to do: all of it is there already."]  # before anything is done
    make(load_pipeline(finished / "tiny.toml", change), run, report, until="two")
    assert [text for text in told if "trained again" in text] == [warning]  # once
    make(load_pipeline(finished / "tiny.toml"), run, quiet)  # as it says: with the settings of before they are there
    assert [stage.action for stage in planned(finished, run).stages] == ["cached"] * 3


def test_finished_stages_that_are_taken_out_of_the_file_are_named(finished, run):
    text = (finished / "tiny.toml").read_text()
    start, end = text.index('[[stage]]\nname = "context"'), text.index("[[probe]]")
    pipeline = load_text(text[:start] + text[end:].replace('stages = ["context"]', 'stages = ["two"]'), "less.toml")
    (warning,) = plan_facts(plan_pipeline(pipeline, run))["warnings"]
    assert warning.startswith("finished stages are not in the file any more: context. The old ones stay in ")
    for path in run.path.glob("stages/*context*/stage.json"):
        path.unlink()
    assert plan_facts(plan_pipeline(pipeline, run))["warnings"] == []


def test_nothing_is_said_where_nothing_is_replaced(finished, run, tmp_path):
    assert plan_facts(planned(finished, run))["warnings"] == []
    assert plan_facts(planned(finished, run, **{"stage.context.store.dtype": "float16"}))["warnings"] == []
    assert plan_facts(planned(finished, RunFolder(tmp_path / "new"), **{"stage.two.train.epochs": 3}))["warnings"] == []


@pytest.mark.parametrize("schedule", ["iterative", "simultaneous"])
def test_a_half_trained_stage_says_how_far_it_is(finished, tmp_path, schedule):
    run, sets = RunFolder(tmp_path / "new"), {"pipeline.schedule": schedule}
    stages = planned(finished, run, **sets).stages
    top = stages[stages[0].together[-1]]
    for slot, epoch in (("a", 0), ("b", 1)):
        (folder := top.folder / "checkpoint" / slot).mkdir(parents=True)
        durable.write_sealed(folder / "state.json", {"progress": {"epoch": epoch}})
    found = {(s.action, s.reason) for s in planned(finished, run, **sets).stages[: len(stages[0].together)]}
    assert found == {("resume", "interrupted in epoch 2 of 2 at most; it goes on from its checkpoint")}
    other = planned(finished, run, **sets, **{"defaults.train.epochs": 3}).stages[top.index - 1]
    words = "not trained yet; one half trained with other settings is kept, and goes on when they are back"
    assert (other.action, other.reason) == ("train", words)
    assert epochs_done(top.folder) == 1
    (top.folder / "checkpoint" / "b" / "state.json").write_bytes(b"{")
    assert (epochs_done(top.folder), epochs_done(tmp_path)) == (0, None)
    assert "in epoch 1 of" in planned(finished, run, **sets).stages[0].reason


def test_older_folders_that_are_damaged_are_named(finished, run):
    (folder,) = run.path.glob("stages/2-two-*")
    (folder / "encoder.safetensors").write_bytes(b"")
    stages = planned(finished, run, **{"stage.two.train.epochs": 3}).stages
    assert (stages[1].action, stages[1].reason) == ("train", f"no weights of it can be read: {folder.name} is damaged")
