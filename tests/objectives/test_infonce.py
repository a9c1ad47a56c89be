"""InfoNCE against a naive loop, in value and gradient."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from stagewise.objectives import InfoNCE, infonce
from stagewise.objectives.infonce import DRAWS, draw_negatives


def naive(objective, z_BCT, c_BDT, negatives_BTN):
    """Equation 4, one score at a time."""
    B, _, T = z_BCT.shape
    rows = [z_BCT[b, :, t] for b in range(B) for t in range(T)]
    total, picked = 0.0, 0.0
    for k in range(1, objective.steps + 1):
        losses = []
        for b in range(B):
            for t in range(T - k):
                target = b * T + t + k
                prediction = objective.W_KCD[k - 1] @ c_BDT[b, :, t]
                if negatives_BTN is None:
                    others = [r for r in range(B * T) if r != target]
                else:
                    others = negatives_BTN[b, t + k].tolist()
                scores = torch.stack([prediction @ rows[r] for r in [target, *others]])
                losses.append(-torch.log_softmax(scores, 0)[0])
                rivals = torch.stack([prediction @ rows[r] for r in others if r != target] or [scores[0]])
                picked += bool((scores[0] > rivals).all()) / (objective.steps * B * (T - k))
        total = total + torch.stack(losses).mean()
    return total / objective.steps, picked


def problem(B=3, C=5, D=4, T=7, seed=0, **arguments):
    torch.manual_seed(seed)
    objective = InfoNCE(C, D, **arguments).double()
    z = torch.randn(B, C, T, dtype=torch.float64, requires_grad=True)
    c = torch.randn(B, D, T, dtype=torch.float64, requires_grad=True)
    return objective, z, c


@pytest.mark.parametrize("chunk_rows", [1, 6, 1000])
@pytest.mark.parametrize("draw", [*DRAWS, "all"])
def test_value_and_gradient_equal_a_naive_loop(draw, chunk_rows, monkeypatch):
    monkeypatch.setattr(infonce, "CHUNK_ROWS", chunk_rows)
    ways = {"negatives": "all"} if draw == "all" else {"negatives": 4, "draw": draw}
    objective, z, c = problem(steps=3, **ways)
    drawn = None if draw == "all" else draw_negatives(draw, 3, 7, 4, torch.Generator().manual_seed(5))
    score = objective(z, c, torch.Generator().manual_seed(5))
    expected, picked = naive(objective, z, c, drawn)
    inputs = (z, c, objective.W_KCD)
    torch.testing.assert_close(score.loss, expected, rtol=1e-12, atol=1e-12)
    assert score.metrics["picked"].item() == pytest.approx(picked)
    ours = torch.autograd.grad(score.loss * 3.0, inputs)
    theirs = torch.autograd.grad(expected * 3.0, inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_context_that_is_the_representation_gets_both_gradients():
    objective, z, _ = problem(C=4, D=4, steps=2, negatives=3)
    drawn = draw_negatives("batch", 3, 7, 3, torch.Generator().manual_seed(1))
    ours = torch.autograd.grad(objective(z, z, torch.Generator().manual_seed(1)).loss, z)
    theirs = torch.autograd.grad(naive(objective, z, z, drawn)[0], z)
    torch.testing.assert_close(ours, theirs, rtol=1e-11, atol=1e-12)


def test_a_second_backward_is_refused_rather_than_wrong():
    objective, z, c = problem(steps=2)
    loss = objective(z, c).loss
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="once per loss"):
        loss.backward()


@settings(max_examples=25, deadline=None)
@given(B=st.integers(1, 4), T=st.integers(3, 9), K=st.integers(1, 2), N=st.integers(1, 5), seed=st.integers(0, 99))
def test_any_shape_equals_the_naive_loop(B, T, K, N, seed):
    objective, z, c = problem(B=B, T=T, seed=seed, steps=K, negatives=N)
    drawn = draw_negatives("batch", B, T, N, torch.Generator().manual_seed(seed))
    expected, _ = naive(objective, z, c, drawn)
    torch.testing.assert_close(objective(z, c, torch.Generator().manual_seed(seed)).loss, expected)


@pytest.mark.parametrize("negatives", [10, 16, "all"])
def test_untrained_loss_is_ln_of_one_plus_negatives(negatives):
    torch.manual_seed(0)
    objective = InfoNCE(64, 64, negatives=negatives)
    z = torch.relu(torch.randn(4, 64, 64)) * 0.1
    count = 255 if negatives == "all" else negatives
    score = objective(z, z)
    assert score.loss.item() == pytest.approx(math.log(1 + count), abs=0.02)
    assert score.metrics["information"].item() == pytest.approx(math.log(1 + count) - score.loss.item(), abs=1e-5)


@pytest.mark.parametrize("negatives", [1, 10, "all"])
@pytest.mark.parametrize("draw", DRAWS)
def test_rows_that_are_all_the_same_are_never_told_apart(draw, negatives):
    objective = InfoNCE(48, 48, steps=5, negatives=negatives, draw=draw)
    z = torch.randn(1, 48, 1).expand(3, 48, 9)
    assert objective(z, z, torch.Generator().manual_seed(0)).metrics["picked"].item() == 0


def test_same_generator_same_loss_and_other_generator_another():
    objective, z, c = problem(steps=2)
    losses = [objective(z, c, torch.Generator().manual_seed(s)).loss.item() for s in (1, 1, 2)]
    assert losses[0] == losses[1] != losses[2]


def test_nothing_is_kept_without_a_graph():
    objective, z, c = problem(steps=2)
    with torch.no_grad():
        assert not objective(z, c).loss.requires_grad


def test_bfloat16_autocast_stays_close_and_returns_float32():
    torch.manual_seed(0)
    objective = InfoNCE(32, 32)
    z = torch.relu(torch.randn(4, 32, 40)).requires_grad_()
    exact = objective(z, z, torch.Generator().manual_seed(0)).loss
    with torch.autocast("cpu", torch.bfloat16):
        rough = objective(z, z, torch.Generator().manual_seed(0)).loss
    rough.backward()
    assert rough.dtype == z.grad.dtype == objective.W_KCD.grad.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.02)


@settings(max_examples=30, deadline=None)
@given(B=st.integers(1, 4), T=st.integers(2, 6), seed=st.integers(0, 1000))
def test_where_negatives_come_from(B, T, seed):
    def drawn(draw):
        return draw_negatives(draw, B, T, 50, torch.Generator().manual_seed(seed))

    own = torch.arange(B * T).view(B, T, 1)
    assert drawn("batch").min() >= 0
    assert drawn("batch").max() < B * T
    assert (drawn("sequence") // T == own // T).all()
    assert (drawn("others") != own).all()


def test_others_draws_every_other_row_equally_often():
    counts = torch.bincount(draw_negatives("others", 1, 4, 30_000)[0, 1], minlength=4)
    assert counts[1] == 0
    assert ((counts[[0, 2, 3]] / 30_000 - 1 / 3).abs() < 0.02).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"negatives": 0}, 'at least 1, or "all"'),
        ({"negatives": "some"}, 'at least 1, or "all"'),
        ({"draw": "here"}, "batch, sequence, others"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        InfoNCE(4, 4, **arguments)


def test_a_window_shorter_than_the_steps_is_refused():
    objective, z, c = problem(steps=7)
    with pytest.raises(ValueError, match="window of 7 rows is too short to predict 7 steps"):
        objective(z, c)


def test_images_are_refused():
    objective, z, c = problem()
    with pytest.raises(ValueError, match="infonce is for recordings: images take infonce-grid"):
        objective(z[..., None], c[..., None])


def test_others_needs_two_rows():
    with pytest.raises(ValueError, match="at least two rows"):
        draw_negatives("others", 1, 1, 3)


def test_parameters_of_the_published_experiment():
    assert sum(p.numel() for p in InfoNCE(512, 512).parameters()) == 3_145_728
    assert sum(p.numel() for p in InfoNCE(512, 256).parameters()) == 1_572_864


def test_without_a_graph_no_gradient_is_computed():
    objective = InfoNCE(6, 6, steps=2, negatives=3)
    z = torch.randn(2, 6, 9)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        score = objective(z, z, torch.Generator().manual_seed(0))
    targets = 2 * 8
    assert counter.get_total_flops() == 2 * targets * 2 * (6 * 6 + 4 * 6)  # predictions and scores
    assert not score.loss.requires_grad
