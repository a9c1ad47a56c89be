"""All stages in sync, as a whole run: the bytes, going on, growing, and what has no meaning."""

import json
import os
import re
import signal

import pytest
import tiny
import tiny_images

import stagewise
from stagewise.errors import ConfigError, Interrupted
from stagewise.pipeline import load_pipeline
from stagewise.runner import make, plan_pipeline, quiet
from stagewise.runs.folder import RunFolder
from stagewise.training import loop

pytestmark = pytest.mark.usefixtures("no_peaks")

SYNC = {"pipeline.schedule": "simultaneous", "defaults.train.windows_per_item": 2}
KINDS = pytest.mark.parametrize("kind", [tiny, tiny_images], ids=["audio", "images"])


def run(kind, folder, sets=None, text=None, name="run"):
    return stagewise.run(
        kind.write_pipeline(folder, text or kind.TOML), run=folder / name, set={**SYNC, **(sets or {})}
    )


def without_last(text, count=1):
    """The pipeline without its last stages, and without probes."""
    stages = without_probes(text).split("[[stage]]")
    return "[[stage]]".join(stages[: len(stages) - count])


def without_probes(text):
    return text.partition("[[probe]]")[0]


def weights(folder):
    return {path.parent.name[:-9]: path.read_bytes() for path in sorted(folder.glob("stages/*/encoder.safetensors"))}


@pytest.fixture(scope="module", params=[tiny, tiny_images], ids=["audio", "images"])
def finished(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sync")
    return request.param, folder, run(request.param, folder)


def test_a_run_in_sync_is_whole(finished):
    kind, folder, facts = finished
    assert (facts["state"], facts["schedule"]) == ("complete", "simultaneous")
    steps = {(stage["train"]["steps"], stage["train"]["epochs"]) for stage in facts["stages"]}
    assert len(steps) == 1
    for stage in facts["stages"]:
        lines = (folder / "run" / "stages" / stage["folder"] / "metrics.jsonl").read_text().splitlines()
        metrics = [json.loads(line) for line in lines]
        assert [line["epoch"] for line in metrics] == [0, 1, 2]
        assert metrics[0]["validation_loss"] == stage["train"]["initial_loss"]
        assert metrics[2]["loss"] == stage["train"]["loss"]
    assert not [path.name for path in folder.rglob("*") if path.name in ("trained.json", "checkpoint")]
    assert stagewise.run(folder / f"{kind.__name__.replace('_', '-')}.toml", run=folder / "run", set=SYNC) == facts


def test_another_run_gives_the_same_bytes(finished, tmp_path):
    kind, folder, _ = finished
    run(kind, tmp_path)
    assert tiny.results(tmp_path / "run") == tiny.results(folder / "run")


@KINDS
def test_one_stage_in_sync_is_that_stage_alone(kind, tmp_path):
    text = without_last(kind.TOML, kind.TOML.count("[[stage]]") - 1)
    run(kind, tmp_path, text=text, name="sync")
    run(kind, tmp_path, {"pipeline.schedule": "iterative"}, text, "alone")
    found = tiny.results(tmp_path / "sync")
    assert found == tiny.results(tmp_path / "alone")
    assert any(name.endswith("encoder.safetensors") for name in found)


def test_interrupted_in_sync_ends_with_the_same_bytes(finished, tmp_path):
    _, folder, _ = finished
    pipeline = load_pipeline(next(folder.glob("*.toml")), SYNC)
    stops = []
    for wanted in (("step", 1), ("step", 1), ("epoch", 1), ("encode", 2)):
        seen = 0

        def report(kind, wanted=wanted, **facts):
            nonlocal seen
            seen += kind == wanted[0]
            if kind == wanted[0] and seen == wanted[1]:
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(Interrupted) as raised:
            make(pipeline, RunFolder(tmp_path / "run"), report)
        stops.append(str(raised.value))
    found = [re.search(r"saved (at step \d of epoch \d|after epoch \d)", stop) for stop in stops]
    assert [match and match[1] for match in found] == [
        "at step 1 of epoch 1",
        "at step 2 of epoch 1",
        "after epoch 1",
        None,
    ]
    assert "stages one to" in stops[0]
    assert "rows are stored" in stops[3]
    make(pipeline, RunFolder(tmp_path / "run"), quiet)
    assert tiny.results(tmp_path / "run") == tiny.results(folder / "run")


def test_a_stage_made_anew_does_not_go_on_from_the_checkpoint_of_its_company(finished, tmp_path):
    _, folder, _ = finished
    pipeline = load_pipeline(next(folder.glob("*.toml")), SYNC)

    def stop(kind, **facts):
        if kind == "step":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        make(pipeline, RunFolder(tmp_path / "run"), stop)
    epochs = []

    def report(kind, **facts):
        if kind == "epoch" and facts["stage"] == "one":
            epochs.append(facts["epoch"])

    make(pipeline, RunFolder(tmp_path / "run"), report, only="one", restart=True)
    assert epochs == [0, 1, 2]


class Killed(BaseException):
    """Not an Exception: nothing may catch it, as nothing catches SIGKILL."""


@pytest.mark.parametrize("nth", [1, 2])
def test_killed_between_two_stages_that_are_marked_as_trained(finished, tmp_path, monkeypatch, nth):
    kind, folder, _ = finished
    from stagewise import stages

    mark, count = stages.mark_trained, 0

    def kill(*arguments):
        nonlocal count
        count += 1
        if count == nth:
            raise Killed
        mark(*arguments)

    monkeypatch.setattr(stages, "mark_trained", kill)
    with pytest.raises(Killed):
        run(kind, tmp_path)
    monkeypatch.setattr(stages, "mark_trained", mark)
    assert run(kind, tmp_path)["state"] == "complete"
    assert tiny.results(tmp_path / "run") == tiny.results(folder / "run")
    assert not list(tmp_path.rglob("trained.json"))


def test_a_stage_with_every_2_is_updated_in_every_second_step(tmp_path, monkeypatch):
    states, together = [], loop.train_together

    def spy(trainees, x, where, generators, classes, due):
        before = [[p.detach().clone() for p in trainee.parameters()] for trainee in trainees]
        scores = together(trainees, x, where, generators, classes, due)
        moved = [
            any(not (old == new).all() for old, new in zip(olds, trainee.parameters(), strict=True))
            for olds, trainee in zip(before, trainees, strict=True)
        ]
        states.append((moved, [score is not None for score in scores]))
        return scores

    monkeypatch.setattr(loop, "train_together", spy)
    file = tiny_images.write_pipeline(tmp_path)
    sets = {**SYNC, "stage.one.train.every": 2, "defaults.train.windows_per_item": 1}
    facts = stagewise.run(file, run=tmp_path / "run", set=sets)
    assert len(states) == facts["stages"][0]["train"]["steps"] == 6  # three an epoch: counting goes on over its end
    for step, (moved, scored) in enumerate(states):
        assert moved == scored == [step % 2 == 0, True]
    assert facts["stages"][0]["train"]["loss"] > 0


def test_every_changes_the_result_of_all_its_company(finished):
    _, folder, _ = finished
    pipeline = load_pipeline(next(folder.glob("*.toml")), {**SYNC, "stage.one.train.every": 2})
    planned = plan_pipeline(pipeline, RunFolder(folder / "run"))
    assert {stage.action for stage in planned.stages} == {"train"}
    assert "every" in planned.stages[0].reason


@KINDS
def test_a_stage_put_on_top_trains_alone_and_leaves_the_old_ones(kind, tmp_path):
    whole = without_probes(kind.TOML)
    if kind is tiny_images:
        whole += (
            '[[stage]]\nname = "three"\n'
            'encoder = { target = "resnet", in_channels = 12, planes = 2, blocks = 1, stride = 2 }\n'
        )
    before = run(kind, tmp_path, text=without_last(whole))
    old = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.glob("run/stages/*/encoder.safetensors")}
    assert len(old) == len(before["stages"]) == 2
    reports = []

    def report(kind, **facts):
        reports.append((kind, facts.get("stage")))

    stagewise.run(kind.write_pipeline(tmp_path, whole), run=tmp_path / "run", set=SYNC, report=report)
    trained = {stage for kind, stage in reports if kind in ("step", "epoch")}
    assert trained == {"context" if kind is tiny else "three"}
    assert all((p.stat().st_mtime_ns, p.read_bytes()) == content for p, content in old.items())
    assert len(weights(tmp_path / "run")) == 3


NO_MEANING = [
    ({"pipeline.schedule": "iterative", "stage.one.train.every": 2}, r'train\.every: needs .*"simultaneous"'),
    ({"stage.two.train.noise": 0.1}, r"noise: is for stages that are trained alone"),
    ({"stage.one.train.batch_size": 3}, r"batch_size: .* have one batch_size; set it in \[defaults.train\]"),
    ({"stage.two.train.epochs": 3}, r"epochs: stages that are trained in sync have one epochs"),
    ({"stage.one.train.patience": 3}, r"patience: stages that are trained in sync have one patience"),
    ({"stage.one.train.windows_per_item": 3}, r"windows_per_item: stages that are trained in sync"),
]


@pytest.mark.parametrize(("sets", "words"), NO_MEANING)
def test_what_has_no_meaning_in_a_schedule_is_refused(tmp_path, sets, words):
    pipeline = load_pipeline(tiny.write_pipeline(tmp_path), {**SYNC, **sets})
    with pytest.raises(ConfigError, match=words) as raised:
        plan_pipeline(pipeline, RunFolder(tmp_path / "run"))
    assert "tiny.toml" in str(raised.value) or "--set" in str(raised.value)


def test_a_recurrent_stage_may_only_be_the_topmost(tmp_path):
    text = tiny.TOML.replace(
        '[[probe]]\nname = "speaker"',
        '[[stage]]\nname = "top"\nencoder = { target = "conv1d", in_channels = 6, out_channels = 4, kernel_size = 1 }\n'
        '[[probe]]\nname = "speaker"',
    )
    pipeline = load_pipeline(tiny.write_pipeline(tmp_path, text), SYNC)
    with pytest.raises(ConfigError, match=r"only the topmost of stages that are trained in sync may be recurrent"):
        plan_pipeline(pipeline, RunFolder(tmp_path / "run"))


def test_every_2_needs_no_company_in_the_schedule_that_may_have_one(tmp_path):
    facts = run(tiny, tmp_path, {"stage.one.train.every": 2}, without_last(tiny.TOML, 2))
    assert facts["state"] == "complete"


def test_a_finished_iterative_run_does_not_claim_to_be_in_sync(tmp_path):
    before = run(tiny, tmp_path, {"pipeline.schedule": "iterative"})
    after = run(tiny, tmp_path)
    assert (before["schedule"], after["schedule"]) == ("iterative", "iterative")
    assert [s["fingerprint"] for s in after["stages"]] == [s["fingerprint"] for s in before["stages"]]
    pipeline = load_pipeline(tmp_path / "tiny.toml", SYNC)
    plan = plan_pipeline(pipeline, RunFolder(tmp_path / "run"))
    assert {stage.reason for stage in plan.stages} == {"it was trained alone, and stays so"}
