"""Cross-entropy against a naive loop, in value and gradient; unknown classes; shapes that do not fit."""

import math
from pkgutil import resolve_name

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from stagewise.objectives import SHORT_NAMES, CrossEntropy, Objective, Supervised
from stagewise.objectives.supervised import cross_entropy


def naive(objective, c, y):
    """One example at a time: the definition."""
    W, bias = objective.linear.weight, objective.linear.bias
    rows = [c[b].flatten(1).unbind(1) for b in range(len(c))]  # of each item
    if not objective.per_row:
        examples = [(sum(item) / len(item), label) for item, label in zip(rows, y.tolist(), strict=True)]
    else:
        examples = [pair for item, labels in zip(rows, y.tolist(), strict=True) for pair in zip(item, labels)]  # noqa: B905
    losses, right = [0.0 * c.sum()], 0
    for vector, label in examples:
        if label == -1:
            continue
        logits = [W[k] @ vector + bias[k] for k in range(len(bias))]
        losses.append(torch.stack([logit.exp() for logit in logits]).sum().log() - logits[label])
        right += max(range(len(logits)), key=lambda k: logits[k].item()) == label
    count = max(1, len(losses) - 1)
    return sum(losses) / count, right / count


def made(classes=4, channels=3, pool="mean", seed=0):
    torch.manual_seed(seed)
    return CrossEntropy(channels, channels, classes, "speaker", pool).double()


@settings(max_examples=40, deadline=None)
@given(
    shape=st.one_of(st.tuples(st.integers(1, 5)), st.tuples(st.integers(1, 3), st.integers(1, 3))),
    items=st.integers(1, 4),
    channels=st.integers(1, 4),
    classes=st.integers(1, 5),
    pool=st.sampled_from(["mean", None]),
    seed=st.integers(0, 99),
)
def test_value_and_gradients_equal_a_naive_loop(shape, items, channels, classes, pool, seed):
    objective = made(classes, channels, pool, seed)
    c = torch.randn(items, channels, *shape, dtype=torch.float64, requires_grad=True)
    y = torch.randint(-1, classes, (items,) if pool else (items, math.prod(shape)))
    score = objective(c, c, None, y)
    expected, accuracy = naive(objective, c, y)
    torch.testing.assert_close(score.loss, expected, rtol=1e-12, atol=1e-13)
    assert score.metrics["accuracy"].item() == pytest.approx(accuracy)
    inputs = (c, *objective.parameters())
    ours = torch.autograd.grad(3.0 * score.loss, inputs)
    theirs = torch.autograd.grad(3.0 * expected, inputs, allow_unused=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, torch.zeros_like(a) if b is None else b, rtol=1e-11, atol=1e-13)


def test_unknown_items_change_nothing():
    objective, c = made(), torch.randn(5, 3, 7, dtype=torch.float64)
    y = torch.tensor([1, -1, 3, -1, 0])
    known = y != -1
    with_unknown, without = objective(c, c, None, y), objective(c[known], c[known], None, y[known])
    torch.testing.assert_close(with_unknown.loss, without.loss)
    assert with_unknown.metrics == without.metrics


def test_a_tie_is_no_hit():
    loss, accuracy = cross_entropy(torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]]), torch.tensor([0, 2]))
    assert accuracy.item() == 0.5
    assert loss.isfinite()


@pytest.mark.parametrize(("pool", "shape"), [("mean", (2,)), (None, (2, 7))])
def test_a_batch_of_unknowns_has_a_loss_of_zero_and_a_gradient_of_zero(pool, shape):
    objective, c = made(pool=pool), torch.randn(2, 3, 7, dtype=torch.float64, requires_grad=True)
    score = objective(c, c, None, torch.full(shape, -1))
    score.loss.backward()
    assert score.loss.item() == score.metrics["accuracy"].item() == 0
    assert all(not p.grad.any() for p in (c, *objective.parameters()))


def test_context_is_what_is_classified():
    objective = CrossEntropy(7, 3, 4, "speaker")
    z, c = torch.randn(2, 7, 5, requires_grad=True), torch.randn(2, 3, 5, requires_grad=True)
    objective(z, c, None, torch.tensor([0, 3])).loss.backward()
    assert z.grad is None
    assert c.grad.abs().sum() > 0


@pytest.mark.parametrize("classes", [10, 251])
def test_untrained_loss_is_ln_classes(classes):
    torch.manual_seed(0)
    c = 0.1 * torch.randn(64, 256, 16)
    loss = CrossEntropy(256, 256, classes, "class")(c, c, None, torch.arange(64) % classes).loss
    assert loss.item() == pytest.approx(math.log(classes), rel=0.01)


def test_a_file_says_none_in_a_word():
    assert [made(pool=pool).per_row for pool in ("mean", None, "none")] == [False, True, True]
    assert made().labels == "speaker"
    assert isinstance(made(), Supervised)


def test_bfloat16_autocast_gives_a_float32_loss():
    torch.manual_seed(0)
    objective, c, y = CrossEntropy(32, 32, 4, "class"), torch.randn(8, 32, 9), torch.arange(8) % 4
    with torch.autocast("cpu", torch.bfloat16):
        rough = objective(c, c, None, y).loss
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(objective(c, c, None, y).loss.item(), rel=0.02)


@pytest.mark.parametrize(
    ("pool", "y", "words"),
    [
        (
            "mean",
            torch.zeros(2, 7).long(),
            r"'speaker'.*shape \(2,\) are needed.*have shape \(2, 7\).*set pool to \"no",
        ),
        ("mean", torch.zeros(3).long(), r"shape \(2,\) are needed, but those given have shape \(3,\)"),
        (None, torch.zeros(2).long(), r"shape \(2, 7\) are needed.*have shape \(2,\); set pool to \"mean\""),
        ("mean", None, r"label 'speaker': classes of shape \(2,\) are needed, but none were given"),
    ],
)
def test_classes_of_another_shape_are_refused(pool, y, words):
    c = torch.randn(2, 3, 7, dtype=torch.float64)
    with pytest.raises(ValueError, match=words):
        made(pool=pool)(c, c, None, y)


def test_an_unknown_pool_is_refused():
    with pytest.raises(ValueError, match='pool must be "mean" or "none", not \'max\''):
        made(pool="max")


@pytest.mark.parametrize(("pool", "shape"), [("mean", (8,)), (None, (8, 49))])
def test_runs_on_tensors_without_data(pool, shape):
    with FakeTensorMode(allow_non_fake_inputs=True):
        objective = CrossEntropy(16, 16, 10, "class", pool)
        c = torch.empty(8, 16, 7, 7, requires_grad=True)
        objective(c, c, None, torch.zeros(shape, dtype=torch.int64)).loss.backward()
        assert c.grad.shape == c.shape
        assert objective.linear.weight.grad.shape == (10, 16)


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_every_short_name_names_an_objective(name):
    assert issubclass(resolve_name(SHORT_NAMES[name]), Objective)
