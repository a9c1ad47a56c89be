"""A step in pieces has the gradient of the whole batch; a loss that is no number changes nothing."""

import copy

import pytest
import torch
from torch import nn

from stagewise.modules import GRU, Conv1d
from stagewise.modules.stage_module import StageModule, Window
from stagewise.objectives import InfoNCE, Objective, Score
from stagewise.training.step import Trainee, batch_dependent, gradient, train_step

B, T = 5, 10


def conv():
    return Conv1d(1, [4, 4], 4, 2, 1)


STAGES = {
    "conv": lambda: StageModule(conv(), None, 1),
    "gru": lambda: StageModule(None, GRU(1, 3), 1),
    "conv and gru": lambda: StageModule(conv(), GRU(4, 3), 1),
    "conv and gru without bptt": lambda: StageModule(conv(), GRU(4, 3, bptt=False), 1),
    "conv and conv": lambda: StageModule(conv(), nn.Conv1d(4, 3, 3, padding=1), 1),
}


def make(stage="conv", pieces=1, dtype=torch.float64, **trainee):
    torch.manual_seed(0)
    module = STAGES[stage]().to(dtype)
    objective = InfoNCE(module.z_channels, module.out_channels, steps=2, negatives=3).to(dtype)
    made = Trainee(module, objective, None, pieces, **trainee)
    made.optimizer = torch.optim.Adam(made.parameters(), lr=1e-2)
    hop = module.geometry.hop
    window = Window((2, 0, 1, 2, 2), T)
    x = torch.randn(B, 1, (T + 4) * hop, dtype=dtype, generator=torch.Generator().manual_seed(3))
    return made, x, window


def generator():
    return torch.Generator().manual_seed(9)


def gradients(trainee, x, window):
    score = gradient(trainee, x, window, generator())
    return score, [p.grad for p in trainee.parameters()]


@pytest.mark.parametrize("pieces", [2, 3, B, 4 * B])
@pytest.mark.parametrize("stage", STAGES)
def test_pieces_have_the_gradient_of_the_whole(stage, pieces):
    one, ones = gradients(*make(stage))
    some, somes = gradients(*make(stage, pieces))
    torch.testing.assert_close(some.loss, one.loss, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(some.metrics, one.metrics, rtol=1e-10, atol=1e-12)
    assert len(ones) > 4
    for a, b in zip(somes, ones, strict=True):
        assert a.abs().sum() > 0
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_the_gradient_is_that_of_the_loss():
    trainee, x, window = make("conv and gru")
    _, grads = gradients(trainee, x, window)
    numbers = copy.deepcopy(trainee)
    weight = next(numbers.stage.parameters())

    def loss(change):
        with torch.no_grad():
            weight[1, 0, 2] += change
            score = numbers.objective(*numbers.stage.window(x, window), generator())
            weight[1, 0, 2] -= change
        return score.loss.item()

    assert grads[0][1, 0, 2].item() == pytest.approx((loss(1e-5) - loss(-1e-5)) / 2e-5, rel=1e-6)


def test_gradients_add_up_until_a_step_uses_them():
    trainee, x, window = make(pieces=2)
    first = [g.clone() for g in gradients(trainee, x, window)[1]]
    for a, b in zip(gradients(trainee, x, window)[1], first, strict=True):
        torch.testing.assert_close(a, 2 * b)


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_step_changes_all_parameters_and_frees_the_gradient(pieces):
    trainee, x, window = make("conv and gru", pieces)
    before = [p.clone() for p in trainee.parameters()]
    score = train_step(trainee, x, window, generator())
    assert not score.loss.requires_grad
    assert all(not torch.equal(a, b) for a, b in zip(before, trainee.parameters(), strict=True))
    assert all(p.grad is None for p in trainee.parameters())
    for _ in range(30):
        last = train_step(trainee, x, window, generator())
    assert last.loss < score.loss - 0.08


def test_the_gradient_of_the_whole_batch_is_clipped():
    trainee, x, window = make(pieces=2, clip_gradient_norm=1e-3)
    trainee.optimizer = torch.optim.SGD(trainee.parameters(), lr=1.0)
    before = [p.clone() for p in trainee.parameters()]
    train_step(trainee, x, window, generator())
    moved = [a - b for a, b in zip(before, trainee.parameters(), strict=True)]
    norm = torch.stack([m.norm() for m in moved]).norm()
    assert norm.item() == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_loss_that_is_not_finite_changes_nothing(pieces, number):
    trainee, x, window = make(pieces=pieces)
    train_step(trainee, x, window, generator())
    before = copy.deepcopy([*trainee.parameters(), trainee.optimizer.state_dict()])
    bad = x.clone()
    bad[1, 0, 20] = number
    assert not torch.isfinite(train_step(trainee, bad, window, generator()).loss)
    after = [*trainee.parameters(), trainee.optimizer.state_dict()]
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert all(p.grad is None for p in trainee.parameters())


class Supervised(Objective):
    """Reads z alone, so that nothing flows back through c."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, dtype=torch.float64))

    def forward(self, z_BCT, c_BDT, generator=None):
        return Score((z_BCT.mean(2) @ self.weight).square().mean())


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_objective_may_ignore_the_context(pieces):
    trainee, x, window = make("conv and gru", pieces)
    trainee.objective = Supervised()
    gradient(trainee, x, window, generator())
    assert all(p.grad is None for p in trainee.stage.context.parameters())
    assert all(p.grad is not None for p in trainee.stage.encoder.parameters())


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_stage_without_parameters_trains_its_objective(pieces):
    torch.manual_seed(0)
    trainee = Trainee(StageModule(nn.MaxPool1d(2), None, 4), InfoNCE(4, 4, steps=2, negatives=3), None, pieces)
    gradient(trainee, torch.randn(B, 4, 24), Window((0,) * B, T), generator())
    assert trainee.objective.W_KCD.grad is not None


def test_bfloat16_is_close():
    for pieces in (1, 2):
        trainee, x, window = make("conv and gru", pieces, torch.float32)
        _, full = gradients(trainee, x, window)
        low, x, window = make("conv and gru", pieces, torch.float32)
        low.stage = StageModule(low.stage.encoder, low.stage.context, 1, precision=torch.bfloat16)
        _, grads = gradients(low, x, window)
        for a, b in zip(grads, full, strict=True):
            assert a.dtype == torch.float32
            assert (a - b).norm() < 0.3 * b.norm()


def test_layers_that_are_not_exact_in_pieces_are_named():
    stage = nn.Sequential(nn.BatchNorm1d(2), nn.Sequential(nn.Dropout(0.1), nn.ReLU()), nn.RReLU())
    assert batch_dependent(stage) == ["BatchNorm1d", "Dropout", "RReLU"]
    assert batch_dependent(STAGES["conv and gru"]()) == []
