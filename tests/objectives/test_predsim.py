"""PredSim against a naive loop, in value and gradient; unknown classes; maps and arguments that do not fit."""

import math
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from stagewise.objectives import PredSim, supervised
from stagewise.objectives.supervised import similarity


def convolved(h, kernel):
    """(D, R, S) → (D, R, S), zeros around it, place by place."""
    _, R, S = h.shape
    rows = []
    for r in range(R):
        row = []
        for s in range(S):
            near = [
                kernel[:, :, i, j] @ h[:, r + i - 1, s + j - 1]
                for i in range(3)
                for j in range(3)
                if 0 <= r + i - 1 < R and 0 <= s + j - 1 < S
            ]
            row.append(sum(near))
        rows.append(torch.stack(row, 1))
    return torch.stack(rows, 1)


def cosine(a, b):
    a, b = a - a.mean(), b - b.mean()
    return (a @ b) / ((a @ a).sqrt() * (b @ b).sqrt())


def features(h):
    """Standard deviations of the channels if there are more than 3 of them, else all there is."""
    if len(h) <= 3 or h.shape[1] == 1:
        return h.flatten()
    spread = []
    for channel in h.flatten(1):
        mean = channel.sum() / len(channel)
        spread.append((sum((v - mean) ** 2 for v in channel) / (len(channel) - 1)).sqrt())
    return torch.stack(spread)


def cells(h, n):
    """Means of n × n cells that cover the map, in the order channel, row, column."""
    _, R, S = h.shape
    edges = [[(i * size // n, -(-(i + 1) * size // n)) for i in range(n)] for size in (R, S)]
    return torch.stack([plane[a:b, c:d].mean() for plane in h for a, b in edges[0] for c, d in edges[1]])


def naive(objective, c, y):
    known = [b for b in range(len(y)) if y[b] != -1]
    one_hot = torch.eye(objective.classes, dtype=c.dtype)
    pred = 0.0 * c.sum()
    for b in known:
        logits = objective.linear.weight @ cells(c[b], objective.cells) + objective.linear.bias
        pred = pred + (logits.exp().sum().log() - logits[y[b]]) / len(known)
    seen = {b: features(convolved(c[b], objective.conv.weight)) for b in known}
    sim = 0.0 * c.sum()
    for a in known:
        for b in known:
            wanted = cosine(one_hot[y[a]], one_hot[y[b]])
            sim = sim + (cosine(seen[a], seen[b]) - wanted) ** 2 / len(known) ** 2
    return (1 - objective.weight) * pred + objective.weight * sim, sim


def made(channels=5, classes=3, weight=0.9, seen=20, seed=0):
    torch.manual_seed(seed)
    with patch.object(supervised, "PREDICTING", seen):
        objective = PredSim(channels, channels, classes, "class", weight).double()
    torch.nn.init.normal_(objective.linear.weight)  # it begins at zero, where c would get no gradient through it
    return objective


@settings(max_examples=25, deadline=None)
@given(
    items=st.integers(1, 4),
    channels=st.integers(2, 6),
    R=st.integers(2, 5),
    S=st.integers(2, 5),
    classes=st.integers(2, 4),
    weight=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    seed=st.integers(0, 99),
)
def test_value_and_gradients_equal_a_naive_loop(items, channels, R, S, classes, weight, seed):
    objective = made(channels, classes, weight, seed=seed)
    c = torch.randn(items, channels, R, S, dtype=torch.float64, requires_grad=True)
    y = torch.randint(-1, classes, (items,))
    score = objective(c, c, None, y)
    expected, mismatch = naive(objective, c, y)
    torch.testing.assert_close(score.loss, expected, rtol=1e-10, atol=1e-12)
    assert score.metrics["mismatch"].item() == pytest.approx(mismatch.item(), abs=1e-10)
    inputs = (c, *objective.parameters())
    ours = torch.autograd.grad(score.loss, inputs)
    theirs = torch.autograd.grad(expected, inputs, allow_unused=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=1e-8, atol=1e-9)


def test_few_channels_are_compared_place_by_place():
    """The spread of a channel does not tell a map from its mirror image; its places do."""
    for channels, equal in ((3, False), (4, True)):
        h = torch.randn(1, channels, 4, 4, dtype=torch.float64)
        cosines = similarity(torch.cat([h, h.flip(3)]))
        torch.testing.assert_close(cosines.diagonal(), torch.ones(2, dtype=torch.float64))
        assert (cosines[0, 1].item() == pytest.approx(1)) is equal


def test_maps_of_one_place_are_compared_as_they_are():
    h = torch.randn(3, 8, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(similarity(h), torch.corrcoef(h.flatten(1)))


def test_similarities_are_correlations_of_spreads():
    h = torch.randn(6, 8, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(similarity(h), torch.corrcoef(h.flatten(2).std(2)))


def test_classes_that_are_told_apart_cost_nothing():
    """Two classes whose features point in opposite directions: every cosine is what it should be."""
    objective = made(channels=4, classes=2, weight=1.0)
    with torch.no_grad():
        objective.conv.weight.zero_()[:, :, 1, 1] = torch.eye(4)
    pattern = torch.randn(1, 1, 3, 3, dtype=torch.float64)
    first, second = torch.tensor([[2.0, 2, 1, 1], [1, 1, 2, 2]], dtype=torch.float64)[:, None, :, None, None] * pattern
    y = torch.tensor([0, 1, 1, 0])
    c = torch.cat([first, second, second * 3, first * 2])
    assert objective(c, c, None, y).loss.item() == pytest.approx(0, abs=1e-12)
    assert objective(c, c, None, y.flip(0).roll(1)).loss.item() == pytest.approx(2)  # 8 of 16 are off by 2


def test_unknown_items_change_nothing():
    objective, c = made(), torch.randn(5, 5, 4, 4, dtype=torch.float64)
    y = torch.tensor([1, -1, 2, -1, 0])
    known = y != -1
    with_unknown, without = objective(c, c, None, y), objective(c[known], c[known], None, y[known])
    torch.testing.assert_close(with_unknown.loss, without.loss)


def test_a_batch_of_unknowns_has_a_loss_of_zero_and_a_gradient_of_zero():
    objective, c = made(), torch.randn(2, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    score = objective(c, c, None, torch.tensor([-1, -1]))
    score.loss.backward()
    assert score.loss.item() == 0
    assert all(not p.grad.any() for p in (c, *objective.parameters()))


def test_a_dead_map_has_a_gradient_without_nan():
    objective, c = made(), torch.zeros(3, 5, 4, 4, dtype=torch.float64, requires_grad=True)
    objective(c, c, None, torch.tensor([0, 1, 1])).loss.backward()
    assert all(p.grad.isfinite().all() for p in (c, *objective.parameters()))


def test_untrained_classifier_is_at_ln_classes():
    torch.manual_seed(0)
    c = torch.randn(8, 64, 7, 7)
    loss = PredSim(64, 64, 10, "class", weight=0.0)(c, c, None, torch.arange(8)).loss
    assert loss.item() == pytest.approx(math.log(10), rel=0.01)  # whatever c is: only its bias is not zero


@pytest.mark.parametrize(("channels", "inputs"), [(128, 3200), (256, 4096), (512, 2048), (1024, 4096), (5000, 5000)])
def test_the_classifier_sees_at_most_4096_numbers(channels, inputs):
    with torch.device("meta"):
        assert PredSim(channels, channels, 10, "class").linear.in_features == inputs


def test_bfloat16_autocast_compares_in_float32():
    torch.manual_seed(0)
    objective, c, y = PredSim(16, 16, 4, "class"), torch.randn(8, 16, 5, 5), torch.arange(8) % 4
    with torch.autocast("cpu", torch.bfloat16):
        rough = objective(c, c, None, y).loss
        assert similarity(c.bfloat16()).dtype == torch.float32
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(objective(c, c, None, y).loss.item(), rel=0.02)


def test_it_needs_one_class_per_image():
    assert (made().labels, made().per_row) == ("class", False)


def test_runs_on_tensors_without_data():
    with FakeTensorMode(allow_non_fake_inputs=True):
        objective = PredSim(16, 16, 10, "class")
        c = torch.empty(8, 16, 7, 7, requires_grad=True)
        objective(c, c, None, torch.zeros(8, dtype=torch.int64)).loss.backward()
        assert c.grad.shape == c.shape
        assert all(p.grad.shape == p.shape for p in objective.parameters())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"weight": 1.5}, "weight must be between 0 and 1, not 1.5"),
        ({"classes": 1}, "label 'class' has 1 class: similarity needs at least two"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        made(**arguments)


@pytest.mark.parametrize(
    ("shape", "y", "words"),
    [
        ((2, 5, 9), torch.zeros(2).long(), r"predsim needs maps .*not \(2, 5, 9\); use cross-entropy for rows"),
        ((2, 5, 3, 3), torch.zeros(2, 9).long(), r"shape \(2,\) are needed.*\(2, 9\); use a label with one class per"),
        ((2, 5, 3, 3), None, "label 'class'.*none were given"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shape, y, words):
    c = torch.randn(shape, dtype=torch.float64)
    with pytest.raises(ValueError, match=words):
        made()(c, c, None, y)
