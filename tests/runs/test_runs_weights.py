"""What was trained or probed on weights that are gone is made again; nothing of two trainings is mixed."""

import shutil

import pytest
import tiny

import stagewise
from stagewise import stages
from stagewise.pipeline import load_pipeline
from stagewise.planning.changes import WEIGHTS_BELOW_CHANGED
from stagewise.runner import make as make_run
from stagewise.runner import plan_pipeline, quiet
from stagewise.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_peaks")


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "run")
    return RunFolder(tmp_path / "run")


def other_validation(monkeypatch):
    """As on another machine, where the same training ends with other weights."""
    held_out = stages.held_out
    monkeypatch.setattr(stages, "held_out", lambda *given: held_out(*given[:3], given[3] + 1))


def lose(run, pattern):
    (folder,) = run.path.glob(f"stages/{pattern}")
    shutil.rmtree(folder)


def test_stages_and_probes_on_a_stage_with_other_weights_are_made_again(finished, run, tmp_path, monkeypatch):
    other_validation(monkeypatch)
    lose(run, "2-two-*")
    whole = tmp_path / "whole"
    shutil.copytree(run.path, whole)
    for pattern in ("stages/3-context-*", "probes/*-two-*", "probes/*-context-*"):
        for folder in list(whole.glob(pattern)):
            shutil.rmtree(folder)
    stagewise.run(finished / "tiny.toml", run=whole)
    stagewise.run(finished / "tiny.toml", run=run.path)
    made, old = tiny.results(run.path), tiny.results(finished / "run")
    assert made == tiny.results(whole)
    changed = {name for name in made if made[name] != old[name]}
    assert {name.split("/")[1].rsplit("-", 1)[0] for name in changed} == {
        "2-two", "3-context", "speaker-two", "speaker-context", "phones-context"
    }  # fmt: skip


def test_the_same_weights_again_cost_nothing_above(finished, run):
    lose(run, "2-two-*")
    trained = []
    make_run(
        load_pipeline(finished / "tiny.toml"),
        run,
        lambda kind, **facts: trained.append(facts["stage"]) if kind == "epoch" else None,
    )
    assert set(trained) == {"two"}
    assert tiny.results(run.path) == tiny.results(finished / "run")


def test_the_plan_says_so(finished, run, monkeypatch):
    other_validation(monkeypatch)
    lose(run, "2-two-*")
    pipeline = load_pipeline(finished / "tiny.toml")
    make_run(pipeline, run, quiet, only="two", restart=True)
    planned = plan_pipeline(pipeline, run)
    assert [stage.action for stage in planned.stages] == ["cached", "cached", "train"]
    assert planned.stages[2].reason == WEIGHTS_BELOW_CHANGED


def test_a_checkpoint_on_other_weights_is_not_gone_on_from(finished, run, tmp_path, monkeypatch):
    from stagewise.errors import Interrupted

    def stop(kind, **facts):
        if kind == "epoch" and (facts["stage"], facts["epoch"]) == ("context", 1):
            import os

            os.kill(os.getpid(), 15)

    pipeline, fresh = load_pipeline(finished / "tiny.toml"), RunFolder(tmp_path / "fresh")
    with pytest.raises(Interrupted):
        make_run(pipeline, fresh, stop)
    lose(fresh, "2-two-*")
    other_validation(monkeypatch)
    notes = []
    make_run(pipeline, fresh, lambda kind, **facts: notes.append(str(facts.get("text"))))
    assert any("the stage below has other weights now" in note for note in notes)


def test_another_machine_is_said_and_rows_are_not_mixed(finished, tmp_path, monkeypatch):
    """Interrupted in training and in encoding, and gone on with on a machine of another name."""
    from stagewise.errors import Interrupted
    from stagewise.stores import journal

    pipeline, run, notes = load_pipeline(finished / "tiny.toml"), RunFolder(tmp_path / "run"), []

    def stop_at(wanted):
        def report(kind, **facts):
            notes.append(str(facts.get("text")))
            if kind == wanted and facts["stage"] == "two":
                import os

                os.kill(os.getpid(), 15)

        return report

    def on(name):
        monkeypatch.setattr("stagewise.training.loop.machine", lambda device: name)
        monkeypatch.setattr("stagewise.encoding.encode.machine", lambda device: name)

    on("here")
    with pytest.raises(Interrupted):
        make_run(pipeline, run, stop_at("epoch"))
    on("there")
    with pytest.raises(Interrupted):
        make_run(pipeline, run, stop_at("encode"))
    assert any("trained on another machine so far (here; this is there)" in note for note in notes)
    resumed, resume = [], journal.resume
    monkeypatch.setattr(journal, "resume", lambda *args: resumed.append(resume(*args)) or resumed[-1])
    on("elsewhere")
    make_run(pipeline, run, quiet)
    assert resumed[0] is None
    assert tiny.results(run.path) == tiny.results(finished / "run")


def test_a_store_that_is_not_kept_stays_for_a_stage_that_is_outgrown(tmp_path, monkeypatch):
    """Stage two is made again with other weights; what stage one stored is still needed for the stage above both."""
    file = tiny.write_pipeline(tmp_path)
    keep = {"stage.one.store.keep": False, "stage.one.store.write": True, "stage.two.store.write": False}
    made = tmp_path / "made"
    stagewise.run(file, run=made, set=keep)
    other_validation(monkeypatch)
    lose(RunFolder(made), "2-two-*")
    shutil.copytree(made, tmp_path / "by hand")
    for pattern in ("stages/3-context-*", "probes/*-two-*", "probes/*-context-*"):
        for folder in list((tmp_path / "by hand").glob(pattern)):
            shutil.rmtree(folder)
    for run in (made, tmp_path / "by hand"):
        stagewise.run(file, run=run, set=keep)
    assert tiny.results(made) == tiny.results(tmp_path / "by hand")


def test_what_is_outgrown_is_not_shown_as_done_and_probe_deletes_nothing(finished, run, monkeypatch):
    from stagewise.errors import ConfigError
    from stagewise.runs.facts import run_facts

    other_validation(monkeypatch)
    pipeline = load_pipeline(finished / "tiny.toml")
    lose(run, "2-two-*")
    make_run(pipeline, run, quiet, only="two", restart=True)
    facts = run_facts(run)
    assert [stage["state"] for stage in facts["stages"]] == ["complete", "complete", "partial"]
    assert {probe["stage"] for probe in facts["probes"]} == {"one"}
    with pytest.raises(ConfigError, match=r"stage context is not done \("):
        make_run(pipeline, run, quiet, probe="")
    assert list(run.path.glob("stages/3-context-*/encoder.safetensors"))


def test_records_without_weights_are_taken_as_they_are(finished, run):
    """As runs have them that were made before weights were recorded."""
    from stagewise import durable

    for path, key in [(p, "below") for p in run.path.glob("stages/*/stage.json")] + [
        (p, "weights") for p in run.path.glob("probes/*/probe.json")
    ]:
        content = durable.read_sealed(path, "")
        del content[key]
        durable.write_sealed(path, content)
    before = tiny.results(run.path)
    calls = []
    make_run(load_pipeline(finished / "tiny.toml"), run, lambda kind, **facts: calls.append(kind))
    assert not {"epoch", "encode", "probed"} & set(calls)
    assert tiny.results(run.path) == before
