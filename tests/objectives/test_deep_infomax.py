"""Deep InfoMax against a naive loop, in value and gradient."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

from stagewise.objectives import DeepInfoMax
from stagewise.objectives.deep_infomax import _infonce, _jsd


def headed(head, vectors):
    """Two layers with a batch norm between them, a shortcut, a layer norm: one vector at a time."""
    first, norm, _, second = head.body
    hidden = [first.weight @ v for v in vectors]
    mean = sum(hidden) / len(hidden)
    variance = sum((h - mean) ** 2 for h in hidden) / len(hidden)
    result = []
    for v, h in zip(vectors, hidden, strict=True):
        h = ((h - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias).clamp(min=0)
        y = second.weight @ h + second.bias + head.shortcut.weight @ v
        spread = ((y - y.mean()) ** 2).mean()
        result.append((y - y.mean()) / (spread + 1e-5).sqrt() * head.norm.weight + head.norm.bias)
    return result


def naive(objective, z, c):
    B = len(z)
    local = [v for item in z for v in item.flatten(1).unbind(1)]
    L = len(local) // B
    local = headed(objective.local_head, local)
    whole = headed(objective.global_head, [sum(item.flatten(1).unbind(1)) / item[0].numel() for item in c])
    losses, positive, negative, picked = [], [], [], []
    for b in range(B):
        others = [whole[b] @ local[n] for n in range(B * L) if n // L != b]
        negative += [torch.log(1 + torch.exp(-u)) + u - math.log(2) for u in others]
        for n in range(b * L, (b + 1) * L):
            own = whole[b] @ local[n]
            positive.append(math.log(2) - torch.log(1 + torch.exp(-own)))
            losses.append(-torch.log_softmax(torch.stack([own, *others]), 0)[0])
            picked.append(float(own > max(others)))
    if objective.loss == "infonce":
        return torch.stack(losses).mean(), sum(picked) / len(picked)
    return torch.stack(negative).mean() - torch.stack(positive).mean(), None


def made(loss="infonce", C=3, D=2, units=4, seed=0):
    torch.manual_seed(seed)
    objective = DeepInfoMax(C, D, loss, units).double()
    for head in (objective.local_head, objective.global_head):  # no weight that could be left out
        for p in (*head.body[1].parameters(), *head.norm.parameters()):
            torch.nn.init.normal_(p, 0.5)
    return objective


@settings(max_examples=30, deadline=None)
@given(
    loss=st.sampled_from(["infonce", "jsd"]),
    B=st.integers(2, 4),
    shapes=st.lists(
        st.one_of(st.tuples(st.integers(1, 5)), st.tuples(st.integers(1, 3), st.integers(1, 3))), min_size=2, max_size=2
    ),
    C=st.integers(1, 4),
    D=st.integers(1, 4),
    units=st.integers(3, 6),  # a layer norm of two is ±1: ties
    seed=st.integers(0, 99),
)
def test_value_and_gradients_equal_a_naive_loop(loss, B, shapes, C, D, units, seed):
    objective = made(loss, C, D, units, seed)
    z = torch.randn(B, C, *shapes[0], dtype=torch.float64, requires_grad=True)
    c = torch.randn(B, D, *shapes[1], dtype=torch.float64, requires_grad=True)
    score = objective(z, c)
    expected, picked = naive(objective, z, c)
    torch.testing.assert_close(score.loss, expected, rtol=1e-9, atol=1e-11)
    if picked is not None:
        assert score.metrics["picked"].item() == pytest.approx(picked)
    inputs = (z, c, *objective.parameters())
    ours, theirs = (torch.autograd.grad(v, inputs) for v in (score.loss, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)


def test_context_that_is_the_representation_gets_both_gradients():
    objective = made(C=3, D=3)
    z = torch.randn(3, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    ours, theirs = (torch.autograd.grad(v, z)[0] for v in (objective(z, z).loss, naive(objective, z, z)[0]))
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_equal_items_cannot_be_told_apart():
    """Every score is the same, so the loss is that of guessing and nothing is learnt about the item."""
    z = torch.randn(1, 3, 1, 1).expand(8, 3, 7, 7)
    score = DeepInfoMax(3, 3, units=16)(z, z)
    assert score.loss.item() == pytest.approx(math.log(1 + 7 * 49), rel=1e-5)
    assert score.metrics["information"].item() == pytest.approx(0, abs=1e-4)


def test_scores_of_zero_are_worth_nothing_and_large_ones_all_there_is():
    same = torch.eye(4)[..., None].expand(4, 4, 5)
    zero = torch.zeros(4, 4, 5)
    assert _jsd(zero).loss.item() == pytest.approx(0, abs=1e-6)
    assert _jsd(1000 * (2 * same - 1)).metrics["divergence"].item() == pytest.approx(math.log(2))
    assert _infonce(zero).loss.item() == pytest.approx(math.log(16))
    assert _infonce(zero).metrics["picked"].item() == 0  # a tie is no hit
    sure = _infonce(1000 * same)
    assert sure.metrics["information"].item() == pytest.approx(math.log(16))
    assert sure.metrics["picked"].item() == 1
    assert _infonce(-1000 * same).metrics["picked"].item() == 0
    assert _infonce(-1000 * same).loss.item() == pytest.approx(1000 + math.log(15))


@pytest.mark.parametrize("loss", ["infonce", "jsd"])
def test_it_learns_which_location_belongs_to_which_image(loss):
    torch.manual_seed(0)
    z = torch.randn(8, 6, 1, 1) + 0.1 * torch.randn(8, 6, 3, 3)
    objective = DeepInfoMax(6, 6, loss, units=32)
    optimizer = torch.optim.Adam(objective.parameters(), 1e-2)
    for _ in range(60):
        score = objective(z, z)
        optimizer.zero_grad()
        score.loss.backward()
        optimizer.step()
    least = {"infonce": ("information", 0.95 * math.log(1 + 7 * 9)), "jsd": ("divergence", 0.95 * math.log(2))}[loss]
    assert score.metrics[least[0]].item() > least[1]


def test_a_shortcut_begins_as_a_noisy_copy_where_there_is_room():
    weight = DeepInfoMax(5, 9, units=7).local_head.shortcut.weight
    copied = torch.eye(7, 5)
    assert torch.equal(weight[copied == 1], torch.ones(5))
    assert 0 < weight[copied == 0].abs().max() <= 0.01
    assert DeepInfoMax(5, 9, units=7).global_head.shortcut.weight.abs().max() <= 1 / 3  # torch's own start


def test_nothing_is_remembered_from_one_batch_to_the_next():
    objective, z = made(C=3, D=3), torch.randn(4, 3, 5, dtype=torch.float64)
    before = objective(z, z).loss
    objective(z + 3, z)
    assert torch.equal(objective(z, z).loss, before)
    assert torch.equal(objective.eval()(z, z).loss, before)  # a validation is comparable with the training
    assert not list(objective.buffers())


def test_scores_are_float32_under_autocast():
    torch.manual_seed(0)
    objective, z = DeepInfoMax(16, 16, units=64), torch.randn(8, 16, 3, 3)
    with torch.autocast("cpu", torch.bfloat16):
        rough = objective(z, z).loss
    assert rough.dtype == torch.float32
    assert rough.item() == pytest.approx(objective(z, z).loss.item(), rel=0.03)


@pytest.mark.parametrize("loss", ["infonce", "jsd"])
def test_runs_on_tensors_without_data_and_keeps_nothing_larger_than_the_units(loss):
    kept = []
    with FakeTensorMode(allow_non_fake_inputs=True):
        objective = DeepInfoMax(64, 64, loss)
        z = torch.empty(64, 64, 7, 7, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            score = objective(z, z)
        score.loss.backward()
        assert z.grad.shape == z.shape
        assert all(p.grad.shape == p.shape for p in objective.parameters())
    assert max(kept) <= 64 * 49 * 1024


def test_a_batch_of_one_is_refused():
    with pytest.raises(ValueError, match="it needs at least 2 of them, not 1"):
        DeepInfoMax(3, 3)(torch.randn(1, 3, 4), torch.randn(1, 3, 4))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"loss": "dv"}, 'loss must be "infonce" or "jsd", not \'dv\''),
        ({"units": 0}, "units must be at least 1, not 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        DeepInfoMax(3, 3, **arguments)
