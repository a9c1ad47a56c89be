"""The predicted peak of stages in sync against the measured one, and against the same layers end to end."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stagewise.modules import GRU, Conv1d, Geometry, ResNet
from stagewise.modules.patches import PatchStage
from stagewise.modules.stage_module import StageModule
from stagewise.objectives import CrossEntropy, GridInfoNCE, InfoNCE
from stagewise.training.checkpoint import state_of
from stagewise.training.memory_forecast import predict_together
from stagewise.training.memory_measured import CATEGORIES, measured
from stagewise.training.step import Member, Trainee, place_windows, train_together
from stagewise.training.windows import Batch

CPU = torch.device("cpu")
B, ROWS, GRID = 4, 24, (4, 4)


def image_stages(depth):
    stages = [PatchStage(ResNet(1, 8, 1, stem=16), None, (1, 8, 8))]
    while len(stages) < depth:
        stages.append(PatchStage(ResNet(32, 8, 1), None, (32, 8, 8)))
    return stages


def audio_stages(depth, channels=32):
    return [
        StageModule(Conv1d(channels if n else 1, channels, 6, 2, 2), None, channels if n else 1) for n in range(depth)
    ]


class Problem:
    """Stages, what they are trained with, and a batch of their input."""

    def __init__(self, stages, pieces=1, supervised=False, rows=ROWS):
        torch.manual_seed(0)
        self.images = isinstance(stages[0], PatchStage)
        self.trainees, members, geometry = [], [], Geometry()
        for number, stage in enumerate(stages):
            z, c = stage.z_channels, stage.c_channels
            if supervised:
                objective = CrossEntropy(z, c, 3, "class", "mean" if self.images else "none")
            else:
                objective = GridInfoNCE(z, c, 2, 1, 4) if self.images else InfoNCE(z, c, steps=4)
            trainee = Trainee(stage, objective, None, pieces)
            trainee.optimizer = torch.optim.Adam(trainee.parameters(), lr=1e-4, fused=True)
            geometry += stage.geometry
            self.trainees.append(trainee)
            members.append(Member(str(number), Path(), trainee, geometry, rows))
        zeros_B, skip = np.zeros(B, np.int64), -(geometry.first // geometry.hop)
        if self.images:
            batch = Batch(zeros_B, zeros_B, (0,) * B, 16, 16, GRID)
            self.shape = (B, 1, 16, 8, 8)
        else:
            batch = Batch(zeros_B, zeros_B, (skip,) * B, geometry.window_span(ROWS), ROWS)
            self.shape = (B, 1, batch.span)
        self.where = place_windows(members, batch, 0)

    def predicted(self, small=False):
        return predict_together(self.trainees, [], self.shape, self.where, small)

    def classes(self):
        if not isinstance(self.trainees[0].objective, CrossEntropy):
            return [None] * len(self.trainees)
        return [torch.zeros(B if self.images else (B, place.window.rows), dtype=torch.int64) for place in self.where]

    def measured(self):
        peak, count = 0, len(self.trainees)
        for _ in range(2):  # the second step is the first with the optimizers' state
            states = [state_of({"s": t.stage, "o": t.objective}, t.optimizer) for t in self.trainees]
            existing = sum(tensor.nbytes for state in states for tensor in state.values())
            with measured(CPU, existing) as step:
                x = torch.randn(self.shape)  # one channel: in memory as a source would give it
                generators = [torch.Generator() for _ in range(count)]
                train_together(self.trainees, x, self.where, generators, self.classes(), [True] * count)
                del x
            peak = max(peak, step.bytes)
        return peak


PROBLEMS = {
    "images": lambda: Problem(image_stages(2)),
    "images in pieces": lambda: Problem(image_stages(2), 2),
    "deep images": lambda: Problem(image_stages(4)),
    "supervised images": lambda: Problem(image_stages(2), supervised=True),
    "audio": lambda: Problem(audio_stages(3)),
    "audio, windows of all rows": lambda: Problem(audio_stages(3), rows=1000),
    "audio in pieces": lambda: Problem(audio_stages(3), 2),
    "supervised audio": lambda: Problem(audio_stages(3), supervised=True),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_predicted_and_measured_peak_agree(name):
    assert PROBLEMS[name]().predicted().peak == pytest.approx(PROBLEMS[name]().measured(), rel=0.1)


@pytest.mark.parametrize("name", PROBLEMS)
def test_categories_add_up_and_nothing_real_is_touched(name):
    problem = PROBLEMS[name]()
    before = [p.clone() for trainee in problem.trainees for p in trainee.parameters()]
    state = torch.get_rng_state()
    predicted = problem.predicted()
    assert tuple(predicted.by_category) == CATEGORIES
    assert sum(predicted.by_category.values()) == predicted.peak
    parameters = [p for trainee in problem.trainees for p in trainee.parameters()]
    assert predicted.by_category["parameters"] == sum(p.nbytes for p in parameters)  # of all stages at once
    assert predicted.by_category["optimizer"] == pytest.approx(2 * sum(p.nbytes for p in parameters), abs=400)
    assert all(torch.equal(old, new) and new.grad is None for old, new in zip(before, parameters, strict=True))
    assert all(type(p) is nn.Parameter for p in parameters)
    assert torch.equal(state, torch.get_rng_state())


def end_to_end(stages):
    encoder = nn.Sequential(*[stage.encoder for stage in stages])
    if isinstance(stages[0], PatchStage):
        return PatchStage(encoder, None, stages[0].in_shape)
    return StageModule(encoder, None, stages[0].in_channels)


@pytest.mark.parametrize("stages", [lambda: image_stages(5), lambda: audio_stages(6)], ids=["images", "audio"])
@pytest.mark.parametrize("how", ["predicted", "measured"])
def test_a_deep_narrow_stack_needs_less_in_sync_than_end_to_end(stages, how):
    sync, whole = Problem(stages()), Problem([end_to_end(stages())])
    peaks = [p.predicted().peak if how == "predicted" else p.measured() for p in (sync, whole)]
    assert peaks[0] < 0.9 * peaks[1]  # under SSE4.1 most of both is what the convolutions take inside


@pytest.mark.parametrize("stages", [lambda: image_stages(5), lambda: audio_stages(6)], ids=["images", "audio"])
def test_only_one_stage_s_graph_exists_at_a_time(stages):
    """More depth costs parameters and optimizer, and the rows on their way up, but no activations."""
    shallow, deep = Problem(stages()[:3]), Problem(stages())  # of three, one takes rows and hands some on
    few, many = shallow.predicted().by_category, deep.predicted().by_category
    if shallow.images:
        assert few["activations"] == many["activations"]
    else:  # a deeper stack reads longer pieces
        longer = deep.shape[2] / shallow.shape[2]
        assert many["activations"] < 1.1 * longer * few["activations"]


@pytest.mark.parametrize(
    ("make", "sets"),
    [
        (lambda: audio_stages(2), {}),
        (lambda: [StageModule(Conv1d(1, 16, 6, 2, 2), GRU(16, 12), 1)], {}),
        (lambda: [StageModule(Conv1d(1, 16, 6, 2, 2), GRU(16, 12), 1)], {"pieces": 3}),
        (lambda: audio_stages(1), {"supervised": True}),
        (lambda: image_stages(2), {}),
    ],
)
def test_a_small_step_that_is_computed_holds_what_one_without_data_does(make, sets):
    problem = Problem(make(), **sets)
    state = torch.get_rng_state()
    assert problem.predicted(small=True) == problem.predicted(small=False)
    assert torch.equal(state, torch.get_rng_state())
    assert all(p.grad is None for trainee in problem.trainees for p in trainee.parameters())
