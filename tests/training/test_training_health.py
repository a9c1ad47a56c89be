"""Dead channels, collapse and effective rank, where they are known."""

import json
import math

import pytest
import torch

from stagewise.training.validate import Health


def report(rows_RC, batches=1):
    health = Health(rows_RC.shape[1])
    for part in rows_RC.chunk(batches):
        health.add(part.T[None])
    found = health.report()
    json.dumps(found, allow_nan=False)
    return found


def orthogonal(rows, channels):
    """Columns without mean, orthonormal: their covariance is known exactly."""
    torch.manual_seed(0)
    columns = torch.cat([torch.ones(rows, 1), torch.randn(rows, channels)], 1).double()
    return torch.linalg.qr(columns)[0][:, 1:]


@pytest.mark.parametrize("mean", [0.0, 30.0])
@pytest.mark.parametrize("batches", [1, 7])
def test_effective_rank_of_a_known_covariance(mean, batches):
    shares = torch.tensor([0.5, 0.25, 0.125, 0.125])
    rows = orthogonal(400, 4) * shares.sqrt() * 20
    rotation = torch.linalg.qr(torch.randn(4, 4).double())[0]
    found = report((rows @ rotation + mean).float(), batches)
    assert found["rows"] == 400
    assert found["effective_rank"] == pytest.approx(math.exp(-(shares * shares.log()).sum()), abs=0.01)
    assert (found["dead_channels"], found["warnings"]) == (0, [])


def test_rank_one_and_full_rank():
    one = orthogonal(200, 1) @ torch.ones(1, 6).double()
    assert report(one.float())["effective_rank"] == pytest.approx(1, abs=0.01)
    assert report(orthogonal(200, 6).float())["effective_rank"] == pytest.approx(6, abs=0.01)


@pytest.mark.parametrize("constant", [0.0, 0.3, -100.0])
def test_constant_channels_are_dead(constant):
    rows = torch.randn(300, 8)
    rows[:, :3] = constant
    found = report(rows, 5)
    assert (found["dead_channels"], found["warnings"]) == (3, [])
    rows[:, 3:5] = 2 * constant
    found = report(rows, 5)
    assert (found["dead_channels"], found["warnings"]) == (5, ["5 of 8 channels are dead (constant)"])


@pytest.mark.parametrize("constant", [0.0, 0.3, 100.0])
@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_a_collapsed_representation(constant, noise):
    rows = constant * (1 + noise * torch.randn(300, 8))
    found = report(rows, 3)
    assert found["dead_channels"] == 8
    assert found["warnings"] == ["the representation has collapsed: every row is the same"]


def test_a_quiet_channel_beside_a_large_constant_is_alive():
    rows = torch.cat([torch.full((300, 1), 1000.0), 1e-3 * torch.randn(300, 1)], 1)
    assert report(rows)["dead_channels"] == 1


@pytest.mark.parametrize("number", [math.nan, math.inf, 1e30])
def test_numbers_that_cannot_be_judged(number):
    rows = torch.randn(50, 4)
    rows[20, 2] = number
    assert report(rows) == {
        "rows": 50,
        "dead_channels": None,
        "effective_rank": None,
        "warnings": ["the representation holds NaN, infinity or huge numbers"],
    }


def test_too_few_rows_to_judge():
    assert report(torch.randn(1, 4)) == {
        "rows": 1,
        "dead_channels": None,
        "effective_rank": None,
        "warnings": [],
    }
    assert Health(3).report()["rows"] == 0


def test_low_precision_rows_with_a_graph():
    health = Health(3)
    health.add(torch.randn(2, 3, 40, dtype=torch.bfloat16, requires_grad=True))
    assert health.report()["rows"] == 80
