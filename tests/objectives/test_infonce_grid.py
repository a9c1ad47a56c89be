"""InfoNCE on a grid of patches against a naive loop, in value and gradient."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from stagewise.objectives import GridInfoNCE


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def naive(objective, z, c, generator):
    """Equations 3 and 4, one position at a time; targets are numbered row by row, in a row image by image."""
    B, _, H, W = z.shape
    total, picked = 0.0, 0.0
    for k in range(1, objective.steps + 1):
        offset = objective.skip + k
        places = [(b, i, j) for i in range(H - offset) for b in range(B) for j in range(W)]
        drawn = torch.randint(len(places), (len(places), objective.negatives), generator=generator)
        losses = []
        for (b, i, j), others in zip(places, drawn.tolist(), strict=True):
            candidates = [(b, i, j), *(places[other] for other in others)]
            predicted = [objective.W_KDC[k - 1] @ z[b_, :, i_ + offset, j_] for b_, i_, j_ in candidates]
            scores = torch.stack([c[b, :, i, j] @ p for p in predicted])
            losses.append(-torch.log_softmax(scores, 0)[0])
            rivals = [score for score, place in zip(scores, candidates, strict=True) if place != (b, i, j)]
            picked += bool(rivals and scores[0] > max(rivals)) / (objective.steps * len(places))
        total = total + torch.stack(losses).mean()
    return total / objective.steps, picked


def problem(B=2, C=4, D=3, H=5, W=2, seed=0, **arguments):
    torch.manual_seed(seed)
    objective = GridInfoNCE(C, D, **arguments).double()
    z = torch.randn(B, C, H, W, dtype=torch.float64, requires_grad=True)
    c = torch.randn(B, D, H, W, dtype=torch.float64, requires_grad=True)
    return objective, z, c


@pytest.mark.parametrize("arguments", [{"steps": 3, "negatives": 4}, {"steps": 2, "skip": 0}, {"steps": 1, "skip": 2}])
def test_value_and_gradients_equal_a_naive_loop(arguments):
    objective, z, c = problem(**arguments)
    score = objective(z, c, seeded(5))
    expected, picked = naive(objective, z, c, seeded(5))
    torch.testing.assert_close(score.loss, expected, rtol=1e-12, atol=1e-12)
    assert score.metrics["picked"].item() == pytest.approx(picked)
    bound = math.log(1 + objective.negatives) - expected.item()
    assert score.metrics["information"].item() == pytest.approx(bound)
    inputs = (z, c, objective.W_KDC)
    ours = torch.autograd.grad(score.loss * 3.0, inputs)
    theirs = torch.autograd.grad(expected * 3.0, inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


def test_context_that_is_the_representation_gets_both_gradients():
    objective, z, _ = problem(C=4, D=4, steps=2)
    inputs = (z, objective.W_KDC)
    ours = torch.autograd.grad(objective(z, z, seeded(1)).loss, inputs)
    theirs = torch.autograd.grad(naive(objective, z, z, seeded(1))[0], inputs)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("wanted", range(3))
def test_one_gradient_alone_is_the_same(wanted):
    objective, z, c = problem(steps=2)
    inputs = (z, c, objective.W_KDC)
    expected = torch.autograd.grad(objective(z, c, seeded()).loss, inputs[wanted])
    for i, x in enumerate(inputs):
        x.requires_grad_(i == wanted)
    alone = torch.autograd.grad(objective(z, c, seeded()).loss, inputs[wanted])
    assert torch.equal(alone[0], expected[0])


def test_gradients_equal_finite_differences():
    objective, z, c = problem(B=1, C=2, D=2, H=4, W=2, steps=2, negatives=3)
    inputs = (z, c, objective.W_KDC)
    assert torch.autograd.gradcheck(lambda z, c, _: objective(z, c, seeded()).loss, inputs)


@settings(max_examples=25, deadline=None)
@given(
    B=st.integers(1, 3),
    rows=st.integers(1, 3),
    W=st.integers(1, 3),
    steps=st.integers(1, 3),
    skip=st.integers(0, 2),
    negatives=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_any_shape_equals_the_naive_loop(B, rows, W, steps, skip, negatives, seed):
    objective, z, c = problem(B=B, H=steps + skip + rows, W=W, seed=seed, steps=steps, skip=skip, negatives=negatives)
    expected, _ = naive(objective, z, c, seeded(seed))
    torch.testing.assert_close(objective(z, c, seeded(seed)).loss, expected)


def test_untrained_loss_is_ln_17():
    torch.manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(8, 16, 7, 7), dim=1)
    assert GridInfoNCE(16, 16)(z, z, seeded()).loss.item() == pytest.approx(math.log(17), rel=0.03)


def test_patches_that_are_all_the_same_are_never_told_apart():
    z = torch.randn(1, 16, 1, 1).expand(2, 16, 7, 7)
    assert GridInfoNCE(16, 16)(z, z, seeded()).metrics["picked"].item() == 0


def test_a_patch_predicts_its_own_column_skip_plus_k_rows_down():
    """Patches without anything in common, and weights that connect each with the one patch it should predict."""
    objective = GridInfoNCE(49, 49, steps=2, negatives=8)
    z = torch.eye(49).view(1, 49, 7, 7)
    with torch.no_grad():
        for k, W_DC in enumerate(objective.W_KDC, 1):
            W_DC.copy_(100 * torch.diag(torch.ones(49 - 7 * (1 + k)), 7 * (1 + k)))
        score = objective(z, z, seeded())
    assert score.metrics["picked"].item() == 1.0
    assert score.loss.item() < 0.35  # not zero: now and then the target is among its own negatives


def test_same_generator_same_bytes_and_other_generator_another():
    objective, z, c = problem(steps=2)
    losses = [objective(z, c, seeded(s)).loss for s in (1, 1, 2)]
    assert losses[0].item() == losses[1].item() != losses[2].item()
    first, second = (torch.autograd.grad(loss, z)[0] for loss in losses[:2])
    assert torch.equal(first, second)


def test_backward_keeps_the_gradients_alone():
    objective, z, c = problem(steps=2)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        assert objective(z, c).loss.requires_grad
    assert sorted(kept) == sorted([z.numel(), c.numel(), objective.W_KDC.numel()])


def test_without_a_graph_only_the_scores_are_computed():
    objective, z, c = problem(B=2, C=4, D=3, H=5, W=2, steps=2)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        score = objective(z.detach(), c.detach(), seeded())
    assert counter.get_total_flops() == 2 * sum(n * 4 * 3 + n * n * 3 for n in (12, 8))
    assert not score.loss.requires_grad
    assert score.loss.item() == objective(z, c, seeded()).loss.item()


def test_bfloat16_autocast_stays_close_and_returns_float32():
    torch.manual_seed(0)
    objective = GridInfoNCE(32, 32)
    z = torch.relu(torch.randn(4, 32, 7, 7)).requires_grad_()
    inputs = (z, objective.W_KDC)
    exact = objective(z, z, seeded()).loss
    with torch.autocast("cpu", torch.bfloat16):
        rough = objective(z, z, seeded()).loss
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(exact.item(), rel=0.02)
    for a, b in zip(torch.autograd.grad(rough, inputs), torch.autograd.grad(exact, inputs), strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.03 * b.norm()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"skip": -1}, "skip must be at least 0, not -1"),
        ({"negatives": 0}, "negatives must be at least 1, not 0"),
        ({"negatives": 1.5}, "negatives must be a whole number, not 1.5"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        GridInfoNCE(4, 4, **arguments)


def test_recordings_are_refused():
    objective, z, c = problem()
    with pytest.raises(ValueError, match="infonce-grid is for images: recordings take infonce"):
        objective(z.flatten(2), c.flatten(2))


def test_a_grid_with_too_few_rows_is_refused():
    objective, z, c = problem(H=6, steps=5)
    with pytest.raises(ValueError, match="grid of 6 rows is too short to predict 5 steps after 1 skipped.*7 rows"):
        objective(z, c)


@pytest.mark.parametrize(("channels", "count"), [(256, 327_680), (512, 1_310_720), (1024, 5_242_880)])
def test_parameters_of_the_published_experiment(channels, count):
    assert sum(p.numel() for p in GridInfoNCE(channels, channels).parameters()) == count
