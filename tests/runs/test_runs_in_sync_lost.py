"""Stages in sync of which some are gone: all are trained again, or what is trained is used; nothing is mixed."""

import shutil

import pytest
import tiny

import stagewise
from stagewise.pipeline import load_pipeline
from stagewise.runner import make, plan_pipeline, quiet
from stagewise.runs.folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_peaks")]

SYNC = {"pipeline.schedule": "simultaneous"}
NAMES = ("one", "two", "context")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("in_sync")
    stagewise.run(tiny.write_pipeline(folder), run=folder / "run", set=SYNC)
    return folder


@pytest.fixture
def pipeline(finished):
    return load_pipeline(finished / "tiny.toml", SYNC)


def noted(calls):
    """A report that keeps the stages that finished an epoch, with its number."""

    def report(kind, **facts):
        if kind == "epoch":
            calls.append((facts["stage"], facts["epoch"]))

    return report


def stage_files(run):
    return {name: digest for name, digest in tiny.results(run).items() if name.startswith("stages")}


@pytest.mark.parametrize("lost", NAMES)
def test_a_deleted_folder_of_a_finished_run_is_made_again_with_its_company(finished, pipeline, tmp_path, lost):
    run = RunFolder(tmp_path / "run")
    shutil.copytree(finished / "run", run.path)
    (folder,) = run.path.glob(f"stages/?-{lost}-*")
    shutil.rmtree(folder)
    planned = plan_pipeline(pipeline, run)
    assert [(stage.name, stage.action) for stage in planned.stages] == [(name, "train") for name in NAMES]
    reasons = {stage.name: stage.reason for stage in planned.stages}
    assert reasons.pop(lost) == "not trained yet"
    assert set(reasons.values()) == {"a stage that it is trained in sync with is to be trained"}
    stagewise.run(finished / "tiny.toml", run=run.path, set=SYNC)
    assert tiny.results(run.path) == tiny.results(finished / "run")
    assert {stage.action for stage in plan_pipeline(pipeline, run).stages} == {"cached"}


def test_weights_of_two_trainings_are_not_mixed(finished, tmp_path, monkeypatch):
    """As on a GPU, where another training ends with other weights."""
    from stagewise import stages

    run, held_out = RunFolder(tmp_path / "run"), stages.held_out
    shutil.copytree(finished / "run", run.path)
    shutil.rmtree(next(run.path.glob("stages/2-two-*")))
    monkeypatch.setattr(stages, "held_out", lambda *given: held_out(*given[:3], given[3] + 1))
    stagewise.run(finished / "tiny.toml", run=run.path, set=SYNC)
    stagewise.run(finished / "tiny.toml", run=tmp_path / "whole", set=SYNC)
    made, whole, old = (stage_files(path) for path in (run.path, tmp_path / "whole", finished / "run"))
    assert made == whole
    assert not {key for key, digest in made.items() if "encoder" in key and old[key] == digest}


def test_one_command_per_stage_trains_them_once(finished, pipeline, tmp_path):
    run, epochs = RunFolder(tmp_path / "run"), []
    for name in NAMES:
        make(pipeline, run, noted(epochs), only=name, restart=True)
    assert epochs == [(name, epoch) for epoch in (0, 1, 2) for name in NAMES]
    make(pipeline, run, quiet)
    assert tiny.results(run.path) == tiny.results(finished / "run")


def test_a_store_that_is_encoded_again_costs_its_company_nothing(finished, pipeline, tmp_path):
    run, epochs = RunFolder(tmp_path / "run"), []
    make(pipeline, run, quiet, only="one")
    make(pipeline, run, quiet, only="two")
    (manifest,) = run.path.glob("stages/2-two-*/store.manifest.json")
    manifest.write_bytes(b"{}")
    make(pipeline, run, noted(epochs), only="two", restart=True)
    make(pipeline, run, noted(epochs))
    assert epochs == []
    assert tiny.results(run.path) == tiny.results(finished / "run")


def test_another_schedule_is_named_in_words(finished, tmp_path):
    pipeline = load_pipeline(finished / "tiny.toml", {})
    planned = plan_pipeline(pipeline, RunFolder(finished / "run"))
    assert planned.stages[0].reason == "what it is trained in sync with changed"
