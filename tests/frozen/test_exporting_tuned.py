"""An encoder whose weights were tuned is written again, read by stagewise.load, and says that it was tuned."""

import pickle
import warnings

import pytest
import torch
from torch import nn

import stagewise
from stagewise import durable
from stagewise.errors import ConfigError, InputError, NumberError

pytestmark = pytest.mark.usefixtures("no_peaks")


def tune(encoder):
    """A step of a program's own, on a layer on top."""
    encoder.requires_grad_(True)
    model = nn.Sequential(encoder, nn.Conv1d(encoder.channels, 2, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x = torch.randn(2, 1, 3000, generator=torch.Generator().manual_seed(0))
    model(x).square().mean().backward()
    optimizer.step()
    return encoder


def says(out):
    return durable.read_sealed(out / "config.json", "")["tuned"], (out / "README.md").read_text()


@pytest.mark.parametrize("onnx", [False, True])
def test_what_was_tuned_is_read_again(finished, tmp_path, onnx):
    if onnx:
        pytest.importorskip("onnxruntime")
    encoder = tune(stagewise.open(finished / "run").encoder("two"))
    encoder.stages[0].train()
    modes = [module.training for module in encoder.modules()]
    assert stagewise.export(encoder, tmp_path / "tuned", onnx=onnx) == []
    assert [module.training for module in encoder.modules()] == modes
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    tuned, card = says(tmp_path / "tuned")
    assert tuned
    assert "**Tuned**: its weights were changed" in card
    assert "## Probes" not in card
    assert "What it was trained on" in card
    x, read = torch.randn(2, 1, 4000), stagewise.load(tmp_path / "tuned")
    with torch.no_grad():
        torch.testing.assert_close(read(x), encoder.eval()(x), rtol=0, atol=1e-6)
        assert (read(x) - stagewise.open(finished / "run").encoder("two")(x)).abs().max() > 1e-4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of how it reads weights
        program = torch.export.load(tmp_path / "tuned" / "model.pt2").module()
    torch.testing.assert_close(program(x), read(x), rtol=0, atol=1e-5)
    assert (tmp_path / "tuned" / "model.onnx").exists() == onnx
    stagewise.export(read, tmp_path / "again")  # and what was tuned once stays so
    assert says(tmp_path / "again")[0]


@pytest.mark.slow
def test_what_was_not_changed_says_so(finished, tmp_path):
    stagewise.export(stagewise.open(finished / "run").encoder(), tmp_path / "same")
    tuned, card = says(tmp_path / "same")
    assert not tuned
    assert "Tuned" not in card
    loaded = stagewise.load(tmp_path / "same")
    stagewise.export(pickle.loads(pickle.dumps(loaded)), tmp_path / "copy")
    assert not says(tmp_path / "copy")[0]
    stagewise.export(tune(loaded), tmp_path / "copy", force=True)
    assert says(tmp_path / "copy")[0]
    assert stagewise.load(tmp_path / "copy").name == "context"


def test_what_cannot_be_written(finished, tmp_path):
    run = stagewise.open(finished / "run")
    with pytest.raises(InputError, match=r"stagewise.export takes the encoder that stagewise.load .* and not Linear"):
        stagewise.export(nn.Linear(1, 1), tmp_path / "out")
    other = run.encoder("one")
    other.stages[0].encoder[0].bias.fill_(torch.nan)
    with pytest.raises(NumberError, match=r"stages.0.encoder.0.bias holds NaN or infinity: nothing is written"):
        stagewise.export(other, tmp_path / "out")
    wider = run.encoder("one")
    wider.stages[0].encoder = nn.Conv1d(1, 9, 10, 5, 2)
    with pytest.raises(InputError, match="more than the weights of this encoder was changed"):
        stagewise.export(wider, tmp_path / "out")
    louder = run.encoder("one")
    louder.register_forward_hook(lambda module, given, z: 2 * z)
    with pytest.raises(InputError, match="it gives other rows than a network that is made again"):
        stagewise.export(louder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    stagewise.export(run.encoder("one"), tmp_path / "out")
    with pytest.raises(ConfigError, match="is there already: name another, or give it force=True to replace it"):
        stagewise.export(run.encoder("one"), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"^out, .*: there is no folder"):
        stagewise.export(run.encoder("one"), tmp_path / "no" / "out")
