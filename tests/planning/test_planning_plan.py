"""A plan is the same when it is made again, changes nothing, and never undoes what is done below a stage."""

import json
import shutil
from itertools import product

import pytest
import tiny

from stagewise.pipeline import load_text
from stagewise.runner import make, plan_pipeline, quiet
from stagewise.runs.folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_peaks")]

NAMES = ["one", "two", "context"]
CHANGES = [{}, {"stage.two.objective.negatives": 5}, {"stage.one.store.dtype": "float16"}]


def pipeline(**sets):
    return load_text(tiny.TOML, "tiny.toml", {"defaults.store.write": True, **sets})


def planned(run, **sets):
    """Everything that a plan says, but for the free bytes of the disk."""
    plan = plan_pipeline(pipeline(**sets), run)
    stages = [(s.name, s.action, s.reason, s.fingerprint, s.identity, vars(s.policy)) for s in plan.stages]
    return json.loads(json.dumps([stages, plan.locked()]))


def actions(run, **sets):
    return [stage[1] for stage in planned(run, **sets)[0]]


def tree(run):
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in run.path.rglob("*")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    run = RunFolder(tmp_path_factory.mktemp("plan") / "run")
    make(pipeline(), run, quiet)
    return run


@pytest.mark.parametrize("gone", [*product([False, True], repeat=3)])
def test_planning_again_gives_the_same_plan_and_changes_nothing(finished, tmp_path, gone):
    """Whatever stages are there, and whatever has changed in the file since."""
    run = RunFolder(tmp_path / "run")
    shutil.copytree(finished.path, run.path)
    for name, wanted in zip(NAMES, gone, strict=True):
        if wanted:
            shutil.rmtree(next(run.path.glob(f"stages/*-{name}-*")))
    before = tree(run)
    for sets in CHANGES if gone in ((False,) * 3, (False, True, False)) else CHANGES[:1]:
        assert planned(run, **sets) == planned(run, **sets)
    assert tree(run) == before
    found = actions(run)
    for wanted, action in zip(gone, found, strict=True):
        assert action == "train" if wanted else action in ("cached", "encode", "recompute")


@pytest.mark.parametrize("sets", CHANGES)
def test_after_a_run_all_is_cached(finished, tmp_path, sets):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(finished.path, run.path)
    before = planned(run, **sets)
    make(pipeline(**sets), run, quiet)
    assert actions(run, **sets) == ["cached"] * 3
    assert [stage[3:] for stage in planned(run, **sets)[0]] == [stage[3:] for stage in before[0]]
    assert actions(run) == ["cached"] * 3  # and what was there before still is


def test_making_a_stage_undoes_none_below_it(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert actions(run) == ["train"] * 3
    assert not run.path.exists()
    for number, name in enumerate(NAMES, 1):
        make(pipeline(), run, quiet, until=name)
        assert actions(run) == ["cached"] * number + ["train"] * (3 - number)


@pytest.mark.parametrize("length", [1, 2])
def test_a_longer_pipeline_plans_the_lower_stages_as_the_shorter_one_does(finished, tmp_path, length):
    head, *stages = tiny.TOML.split("[[probe]]")[0].split("[[stage]]")
    short = load_text("[[stage]]".join([head, *stages[:length]]), "x.toml", {"defaults.store.write": True})
    for run in (finished, RunFolder(tmp_path / "run")):
        plan = plan_pipeline(short, run)
        lower = [[s.name, s.action, s.reason, s.fingerprint, s.identity, vars(s.policy)] for s in plan.stages]
        assert json.loads(json.dumps(lower)) == planned(run)[0][:length]
