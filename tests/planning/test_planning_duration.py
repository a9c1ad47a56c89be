"""How long stages are estimated to take: as many steps as are made, nothing for what is there."""

import pytest
import tiny
import tiny_images
import torch

from stagewise.cli.tables import print_plan
from stagewise.pipeline import load_text
from stagewise.planning import duration
from stagewise.planning.duration import FIT_EXAMPLE, FIT_STEP, Speed, durations, estimate
from stagewise.planning.facts import plan_facts
from stagewise.probing.run import planned_probes
from stagewise.runner import make, plan_pipeline
from stagewise.runs.folder import RunFolder

SYNC = {"pipeline.schedule": "simultaneous", "stage.two.store.write": "auto"}


def planned(run, text=tiny.TOML, **sets):
    return plan_pipeline(load_text(text, "tiny.toml", sets), RunFolder(run))


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        (tiny.TOML, {}),
        (tiny.TOML, {"defaults.train.windows_per_item": 3}),
        (tiny.TOML, {"defaults.train.windows_per_item": "cover", "data.validation": 0.0}),
        (tiny.TOML, SYNC),
        (tiny.TOML, {"data.seconds": 0.1}),  # some items are too short for the windows of the topmost stage
        (tiny_images.TOML, {"data.views": 2}),
        (tiny_images.TOML, {"defaults.train.windows_per_item": 2, "data.unlabelled": 5}),
    ],
)
def test_as_many_steps_are_reckoned_as_are_made(tmp_path, text, sets):
    sets = {"defaults.train.patience": 100, **sets}
    plan = planned(tmp_path / "run", text, **sets)
    made = {}

    def count(kind, **facts):
        if kind == "step":
            made[facts["stage"]] = made.get(facts["stage"], 0) + 1

    make(load_text(text, "tiny.toml", sets), RunFolder(tmp_path / "run"), count, until=plan.stages[-1].name)
    estimated = {s.name: round(d.train / d.step) for s, d in zip(plan.stages, durations(plan), strict=True)}
    assert all(estimated[name] == steps > 0 for name, steps in made.items())
    assert len(made) == (1 if "pipeline.schedule" in sets else len(plan.stages))
    assert len(set(estimated.values())) == 1 or "pipeline.schedule" not in sets


def test_what_is_there_takes_no_time(finished):
    facts = plan_facts(planned(finished / "run"))
    assert [stage["time"] for stage in facts["stages"]] == [{"train_seconds": 0.0, "encode_seconds": 0.0}] * 3
    again = durations(planned(finished / "run", **{"stage.context.store.dtype": "float16"}))
    assert [d.train for d in again] == [0.0] * 3
    assert [d.encode > 0 for d in again] == [False, False, True]
    above = durations(planned(finished / "run", **{"stage.two.objective.negatives": 5}))
    assert [d.train > 0 for d in above] == [False, True, True]


def test_what_was_interrupted_takes_as_many_epochs_as_are_left(tmp_path):
    sets = {"defaults.train.epochs": 5}
    whole = durations(planned(tmp_path / "run", **sets))[0]

    def stop(kind, **facts):
        if kind == "epoch" and facts["epoch"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(load_text(tiny.TOML, "tiny.toml", sets), RunFolder(tmp_path / "run"), stop)
    assert durations(planned(tmp_path / "run", **sets))[0].train == pytest.approx(whole.train * 2 / 5)


def test_the_work_of_a_step_is_counted_by_hand(tmp_path, monkeypatch):
    """Rows × channels × kernel of every layer, three times, and the rows below; a window's spoilt rows are few more."""
    monkeypatch.setattr(duration, "THREAD", Speed(0.0, 1.0, float("inf")))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    one, two, context = durations(planned(tmp_path / "run", **{"stage.one.store.write": False}))
    first, score = 16 * 8 * 10, 16 * 3 * 8 * 8
    assert one.step == pytest.approx(4 * 3 * (first + score), rel=0.1)
    middle = (16 - 1) * 2 + 4  # rows of the lower layer of two, for 16 of the upper
    second = middle * 8 * 8 * 8 + 16 * 8 * 8 * 4
    span = (middle - 1) * 4 + 8
    assert two.step == pytest.approx(4 * (3 * (second + score) + span * 8 * 10), rel=0.1)
    assert context.step > 0
    assert one.encode == 0.0  # it is not written
    assert two.encode > 0.0


def test_reading_the_data_is_counted_where_it_is_read(tmp_path, monkeypatch):
    before = durations(planned(tmp_path / "run"))
    monkeypatch.setattr(tiny.TinySpeech, "reading_seconds", 2.0, raising=False)
    items, after = len(tiny.TinySpeech()), durations(planned(tmp_path / "run"))
    more = [now.encode - then.encode for now, then in zip(after, before, strict=True)]
    stores = [stage.policy.write for stage in planned(tmp_path / "run").stages]
    lowest = stores.index(True)
    assert more[lowest] == pytest.approx(2.0 * items)  # those above it read its rows
    assert sum(more) == pytest.approx(2.0 * items)


def test_the_plan_says_so(tmp_path, capsys):
    facts = plan_facts(planned(tmp_path / "run"))
    facts["stages"][0]["time"] = {"train_seconds": 3000.0, "encode_seconds": 60.0}
    facts["stages"][1]["time"] = {"train_seconds": 90_000.0, "encode_seconds": 0.0}
    facts["stages"][2]["time"] = {"train_seconds": 0.0, "encode_seconds": 0.0}
    facts["threads"], facts["time"]["probe_seconds"] = 2, 3600.0
    print_plan(facts)
    said = " ".join(capsys.readouterr().out.split())
    assert "time: 26.9 hours at most, on 2 threads of a machine on which nothing else runs" in said
    assert (
        "factor of three: one 51 minutes, two 25.0 hours, the probes 60 minutes. A stage that converges ends earlier"
        in said
    )
    print_plan(facts | {"device": "cuda"})
    assert "on a GPU, a guess, give or take" in " ".join(capsys.readouterr().out.split())
    nothing = {"seconds": 0.0, "probe_seconds": 0.0}
    print_plan(plan_facts(planned(tmp_path / "run")) | {"stages": facts["stages"][2:], "time": nothing})
    assert "time:" not in capsys.readouterr().out


def test_probes_are_in_the_estimate(tmp_path, finished):
    plan = planned(tmp_path / "run")
    whole, alone = estimate(plan, planned_probes(plan)), estimate(plan, [])
    assert whole == estimate(plan)  # all that the pipeline asks for
    assert (whole.stages, alone.probes, whole.probes > 0) == (alone.stages, 0.0, True)
    assert whole.seconds == pytest.approx(alone.seconds + whole.probes)
    few, many = (estimate(planned(tmp_path / "run", **{"probe.speaker.epochs": epochs})).probes for epochs in (10, 110))
    steps = 12 / plan.pipeline.probe[0].batch_size
    assert many - few == pytest.approx(3 * 100 * (steps * FIT_STEP + 12 * FIT_EXAMPLE))  # three stages of twelve items
    speaker = [each for each in planned_probes(plan) if each.probe.name == "speaker"]
    both = planned_probes(planned(tmp_path / "run", **{"probe.speaker.random": True}))
    beside = [each for each in both if each.probe.name == "speaker"]
    assert estimate(plan, beside).probes > 2 * estimate(plan, speaker).probes  # no store holds the random rows
    there = [each for each in planned_probes(planned(finished / "run")) if not each.is_there]
    assert estimate(planned(finished / "run"), there).seconds == 0.0
