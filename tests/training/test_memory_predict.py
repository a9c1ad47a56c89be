"""The predicted peak of a training step against the measured one, and what the prediction must keep to."""

import numpy as np
import optimizers
import pytest
import torch
from random_stacks import PAPER
from torch import nn

from stagewise.modules import GRU, Conv1d
from stagewise.modules.stage_module import StageModule, Window, represent
from stagewise.objectives import InfoNCE
from stagewise.training.checkpoint import state_of
from stagewise.training.memory_forecast import predict_step, predict_together
from stagewise.training.memory_measured import CATEGORIES, measured, resident_bytes
from stagewise.training.step import Place, Trainee, train_step

B, T, C = 8, 24, 64
CPU = torch.device("cpu")
END_TO_END = {**PAPER, "out_channels": [C] * 5}
STAGES = {
    "first convolution": lambda: StageModule(Conv1d(1, C, 10, 5, 2), None, 1),
    "second convolution": lambda: StageModule(Conv1d(C, C, 8, 4, 2), None, C),
    "gru": lambda: StageModule(None, GRU(C, 32), C),
    "gru without bptt": lambda: StageModule(None, GRU(C, 32, bptt=False), C),
    "end to end": lambda: StageModule(Conv1d(1, **END_TO_END), None, 1),
    "end to end with gru": lambda: StageModule(Conv1d(1, **END_TO_END), GRU(C, 32), 1),
}


def problem(name, pieces=1, optimizer=torch.optim.Adam):
    torch.manual_seed(0)
    stage = STAGES[name]()
    objective = InfoNCE(stage.z_channels, stage.out_channels, steps=4)
    trainee = Trainee(stage, objective, None, pieces)
    trainee.optimizer = optimizer(trainee.parameters(), lr=1e-4)
    geometry = stage.geometry
    return (
        trainee,
        (B, stage.in_channels, geometry.window_span(T)),
        Window((-(geometry.first // geometry.hop),) * B, T),
    )


def predict(name, pieces=1, **arguments):
    trainee, shape, window = problem(name, pieces, **arguments)
    return predict_step(trainee, [], shape, window)


def measure(trainee, shape, window, below=()):
    peak = 0
    for _ in range(2):
        existing = sum(
            t.nbytes for t in state_of({"s": trainee.stage, "o": trainee.objective}, trainee.optimizer).values()
        )
        with measured(CPU, existing) as step:
            train_step(trainee, represent(below, torch.randn(shape)), window, torch.Generator())
        peak = max(peak, step.bytes)
    return peak


@pytest.mark.parametrize(
    ("name", "pieces"),
    [*((name, 1) for name in STAGES), ("second convolution", 4), ("end to end", 4)],
)
def test_predicted_and_measured_peak_agree(name, pieces):
    assert predict(name, pieces).peak == pytest.approx(measure(*problem(name, pieces)), rel=0.15)


def test_noise_is_in_the_forecast():
    trainee, _, _ = problem("gru")
    trainee.stage, trainee.objective = (
        StageModule(None, torch.nn.Conv1d(C, 1, 1), C),
        InfoNCE(C, 1, steps=1, negatives=1),
    )
    trainee.optimizer = torch.optim.SGD(trainee.parameters())
    place = Place(0, 4096, Window((0,), 2), np.zeros(1, np.int64), True)
    quiet, noisy = (predict_together([trainee], [], (1, C, 4096), [place], noise=noise) for noise in (False, True))
    assert noisy.peak >= 2 * C * 4096 * 4
    assert noisy.peak >= quiet.peak


@pytest.mark.parametrize("optimizer", optimizers.USABLE)
def test_every_optimizer_has_a_forecast(optimizer):
    """Of a stage that hardly has activations: the peak is in the optimizer's step."""
    torch.manual_seed(0)
    trainee = Trainee(StageModule(None, GRU(C, 128), C), InfoNCE(C, 128, steps=1, negatives=2), None)
    trainee.optimizer = optimizer(trainee.parameters(), lr=1e-4)
    predicted = predict_step(trainee, [], (1, C, 8), Window((0,), 8))
    assert predicted.peak == pytest.approx(measure(trainee, (1, C, 8), Window((0,), 8)), rel=0.02)


@pytest.mark.parametrize("name", STAGES)
def test_categories_add_up_to_the_peak(name):
    predicted = predict(name)
    assert tuple(predicted.by_category) == CATEGORIES
    assert sum(predicted.by_category.values()) == predicted.peak
    assert all(count > 0 for count in predicted.by_category.values())
    trainee, shape, _ = problem(name)
    parameters = sum(p.nbytes for p in trainee.parameters())
    assert predicted.by_category["parameters"] == parameters
    assert predicted.by_category["optimizer"] == pytest.approx(2 * parameters, abs=100)
    assert predicted.by_category["input"] == torch.Size(shape).numel() * 4


def test_pieces_lower_the_peak_of_an_end_to_end_stack():
    peaks = [predict("end to end", pieces).peak for pieces in (1, 2, 4, 8)]
    assert peaks == sorted(peaks, reverse=True)
    assert peaks[-1] < 0.5 * peaks[0]


def test_a_stage_needs_less_than_the_whole():
    whole = predict("end to end").peak
    assert predict("first convolution").peak < 0.5 * whole
    assert predict("second convolution").peak < 0.5 * whole


def test_nothing_real_is_touched():
    trainee, shape, window = problem("end to end with gru")
    train_step(trainee, torch.randn(shape), window, torch.Generator())
    tensors = {k: v.clone() for k, v in state_of({"s": trainee.stage}, trainee.optimizer).items()}
    before, optimizer = torch.get_rng_state(), trainee.optimizer
    predict_step(trainee, [], shape, window)
    after = state_of({"s": trainee.stage}, trainee.optimizer)
    assert trainee.optimizer is optimizer
    assert optimizer.param_groups[0]["params"][0] is trainee.parameters()[0]
    assert all(torch.equal(after[k], v) for k, v in tensors.items())
    assert all(p.grad is None and type(p) is nn.Parameter for p in trainee.parameters())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.slow
def test_a_large_batch_is_predicted_without_being_there():
    trainee, (_, channels, span), _ = problem("second convolution")
    resident = resident_bytes()
    predicted = predict_step(trainee, [], (8192, channels, span), Window((1,) * 8192, T))
    assert predicted.peak > 1 << 29
    assert resident_bytes() - resident < 1 << 28


@pytest.mark.parametrize(("kind", "copies"), [(torch.optim.AdamW, 2), (torch.optim.SGD, 0), (torch.optim.RMSprop, 1)])
def test_any_optimizer(kind, copies):
    trainee, _, _ = problem("second convolution")
    parameters = sum(p.nbytes for p in trainee.parameters())
    predicted = predict("second convolution", optimizer=kind)
    assert predicted.by_category["optimizer"] == pytest.approx(copies * parameters, abs=100)


def test_fused_optimizers_and_frozen_parameters():
    trainee, shape, window = problem("second convolution")
    trainee.stage.encoder[0].bias.requires_grad_(False)
    trainee.optimizer = torch.optim.Adam([p for p in trainee.parameters() if p.requires_grad], fused=True)
    assert predict_step(trainee, [], shape, window).peak == pytest.approx(measure(trainee, shape, window), rel=0.15)


def test_frozen_stages_below_count_as_input():
    torch.manual_seed(0)
    below = [STAGES["first convolution"]()]
    trainee, _, _ = problem("second convolution")
    geometry = below[0].geometry + trainee.stage.geometry
    shape, window = (B, 1, geometry.window_span(T)), Window((-(geometry.first // geometry.hop),) * B, T)
    predicted = predict_step(trainee, below, shape, window)
    frozen = sum(p.nbytes for p in below[0].parameters())
    assert predicted.peak == pytest.approx(measure(trainee, shape, window, below) + frozen, rel=0.15)
    rows = geometry.window_span(T) // 5 * C * 4 * B
    assert predicted.by_category["input"] >= frozen + rows


def test_tied_weights_are_counted_once():
    trainee, shape, window = problem("second convolution")
    tied = nn.Sequential(nn.Conv1d(C, C, 1), nn.Conv1d(C, C, 1))
    tied[1].weight = tied[0].weight
    trainee.stage = StageModule(nn.Sequential(trainee.stage.encoder, tied), None, C)
    trainee.optimizer = torch.optim.Adam(trainee.parameters())
    predicted = predict_step(trainee, [], shape, window)
    assert predicted.by_category["parameters"] == sum(p.nbytes for p in trainee.parameters())
