"""A program that is not its encoder is left out, and the reason is told."""

import copy
import re

import pytest
import torch

import stagewise
from stagewise.frozen import program
from stagewise.frozen.program import portable


@pytest.fixture(scope="module")
def encoder(finished):
    """Its rows are far below 1e-4."""
    quiet = copy.deepcopy(stagewise.open(finished / "run").encoder("two"))
    for parameter in list(quiet.stages[-1].parameters())[-2:]:
        parameter.mul_(1e-6)
    assert 0 < quiet(torch.randn(1, 1, 4000)).abs().max() < 1e-4
    return quiet


class Spoilt(torch.nn.Module):
    def __init__(self, module, spoil):
        super().__init__()
        self.module, self.spoil = module, spoil

    def forward(self, x):
        return self.spoil(self.module(x))


SPOILS = {
    "zeros": (lambda z: z * 0, "it differs from the encoder by "),
    "a little": (lambda z: z * (1 + 1e-4), "it differs from the encoder by "),
    "nan": (lambda z: z * torch.nan, "it gives NaN or infinity, or the encoder does"),
    "infinity": (lambda z: z / 0, "it gives NaN or infinity, or the encoder does"),
    "fewer": (lambda z: z[:, :, 1:], r"it gives \(1, 8, .* where the encoder gives \(1, 8, "),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_program_that_gives_something_else_is_left_out(encoder, tmp_path, monkeypatch, spoil):
    change, words = SPOILS[spoil]
    monkeypatch.setattr(program, "portable", lambda encoder: Spoilt(portable(encoder), change))
    found = program.write_program(encoder, (1,), tmp_path / "model.pt2")
    assert re.match(f"model.pt2 is left out: {words}", str(found)), found
    assert not (tmp_path / "model.pt2").exists()


def test_small_rows_are_compared_as_closely(encoder, tmp_path):
    found = program.write_program(encoder, (1,), tmp_path / "model.pt2")
    assert isinstance(found, float)
    assert 0 <= found < 1e-10


class Undecided(torch.nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize("write", [program.write_program, program.write_onnx])
def test_what_torch_cannot_write_is_said_once_and_without_colours(encoder, tmp_path, monkeypatch, capfd, write):
    """Torch prints the graph that it made so far, and words its error in colours; the reason is below that."""
    if write is program.write_onnx:
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    monkeypatch.setattr(program, "portable", lambda _: Undecided())
    found = write(encoder, (1,), tmp_path / "model")
    assert re.match("model is left out: Could not guard on data-dependent expression", str(found)), found
    assert str(found).isprintable()
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "model").exists()
