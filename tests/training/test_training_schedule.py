"""Schedules of the learning rate: the closed form, torch's own, and the same bytes after a stop at any step."""

import json
import math
import os
import signal

import pytest
import tiny
import torch

from stagewise.errors import ConfigError, Interrupted
from stagewise.pipeline import Spec, load_text
from stagewise.runner import plan_pipeline, run_pipeline
from stagewise.runs.folder import RunFolder
from stagewise.training.schedule import WarmupCosine, check_schedule, make_schedule, replay
from stagewise.training.step import updates_after

pytestmark = pytest.mark.usefixtures("no_peaks")

CYCLE = {"target": "torch.optim.lr_scheduler:OneCycleLR", "max_lr": 0.1}  # it also changes Adam's betas
WORK = [
    {"target": "warmup-cosine", "warmup": 0.2, "floor": 0.1},
    {"target": "torch.optim.lr_scheduler:CosineAnnealingLR"},
    {"target": "torch.optim.lr_scheduler:ExponentialLR", "gamma": 0.9},
    {"target": "torch.optim.lr_scheduler:StepLR", "step_size": 3},
    CYCLE,
]


def optimizer():
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.ones(2)
    return torch.optim.Adam([parameter], lr=0.5)


def test_it_rises_in_a_line_and_falls_along_half_a_cosine():
    made = optimizer()
    schedule = WarmupCosine(made, 20, warmup=0.2, floor=0.1)
    rates = []
    for _ in range(21):
        rates.append(made.param_groups[0]["lr"])
        made.step()
        schedule.step()
    assert rates[:4] == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert rates[4:] == pytest.approx([0.5 * (0.1 + 0.9 * (1 + math.cos(math.pi * n / 16)) / 2) for n in range(17)])


def test_without_a_rise_it_begins_at_the_full_rate_and_stays_at_the_floor_after_the_end():
    made = optimizer()
    schedule = WarmupCosine(made, 3, warmup=0)
    assert made.param_groups[0]["lr"] == 0.5
    replay(schedule, 5)
    assert made.param_groups[0]["lr"] == 0


@pytest.mark.parametrize("spec", WORK, ids=lambda spec: spec["target"].rpartition(":")[2])
def test_a_schedule_that_is_replayed_stands_where_it_stood(spec):
    groups = []
    for stopped in (False, True):
        made = optimizer()
        schedule = make_schedule(Spec.model_validate(spec), "x.toml:3", 40)(made)
        for _ in range(0 if stopped else 17):
            made.step()
            schedule.step()
        if stopped:
            replay(schedule, 17)
        made.step()
        schedule.step()
        groups.append({name: value for name, value in made.param_groups[0].items() if name != "params"})
    assert groups[0] == groups[1]
    check_schedule(Spec.model_validate(spec), "x.toml:3", optimizer())


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            {"target": "torch.optim.lr_scheduler:ReduceLROnPlateau"},
            "x.toml:3: .*Plateau cannot be used: .*loss",
        ),
        ({"target": "torch.optim.lr_scheduler:LambdaLR"}, 'needs "lr_lambda"'),
        ({"target": "torch.optim:Adam"}, "x.toml:3: .*LRScheduler"),
        ({"target": "warmup-cosine", "warmup": 2}, "warmup must be between 0 and 1, not 2"),
        ({"target": "warmup-cosine", "total_step": 2}, "total_step"),
    ],
)
def test_what_cannot_be_stepped_is_refused(spec, words):
    with pytest.raises(ConfigError, match=words):
        check_schedule(Spec.model_validate(spec), "x.toml:3", optimizer())


@pytest.mark.parametrize(
    ("steps", "every", "updates"), [(0, 1, 0), (5, 1, 5), (0, 3, 0), (1, 3, 1), (3, 3, 1), (4, 3, 2)]
)
def test_updates_are_those_of_the_steps_that_are_due(steps, every, updates):
    assert updates_after(steps, every) == updates == sum(step % every == 0 for step in range(steps))


def go(folder, report=lambda *_, **__: None, **sets):
    sets = {"stage.one.train.schedule": CYCLE, "stage.two.train.schedule": WORK[0]} | sets
    sets = {"defaults.train.epochs": 4, "defaults.train.patience": 4} | sets
    return run_pipeline(tiny.write_pipeline(folder), run=folder / "run", set=sets, report=report)


@pytest.mark.parametrize("schedule", ["iterative", "simultaneous"])
def test_interrupted_at_any_step_ends_with_the_same_bytes(tmp_path, schedule):
    sets = {"pipeline.schedule": schedule} | ({"stage.one.train.every": 2} if schedule == "simultaneous" else {})
    (tmp_path / "whole").mkdir()
    go(tmp_path / "whole", **sets)
    stops = 0

    def stop(kind, **facts):
        nonlocal stops
        if kind == "step" and (at := (facts["stage"], facts["epoch"], facts["step"])) not in seen:
            seen.add(at)
            stops += 1
            os.kill(os.getpid(), signal.SIGTERM)

    (tmp_path / "stopped").mkdir()
    seen = set()
    while True:
        try:
            go(tmp_path / "stopped", stop, **sets)
            break
        except Interrupted:
            continue
    assert stops >= 3
    assert tiny.results(tmp_path / "stopped" / "run") == tiny.results(tmp_path / "whole" / "run")


def test_the_rate_is_noted_and_decides_the_weights(tmp_path):
    go(tmp_path)
    first, _, without = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(tmp_path.glob("run/stages/*/metrics.jsonl"))
    )
    rates = [epoch["learning_rate"] for epoch in first]
    assert len(rates) == 5
    assert rates[:4] == pytest.approx([0.1 / 25, 0.0812, 0.0283, 4e-7], rel=1e-2)  # of the update to come: OneCycleLR's
    assert "learning_rate" not in without[0]
    run = RunFolder(tmp_path / "nowhere")
    plain, other = (
        plan_pipeline(load_text(tiny.TOML, "tiny.toml", {"stage.one.train.schedule": spec} if spec else {}), run)
        for spec in (None, CYCLE)
    )
    assert plain.stages[0].fingerprint != other.stages[0].fingerprint
    assert "schedule" not in plain.stages[0].identity["train"]["train"]  # as it was before there were any
