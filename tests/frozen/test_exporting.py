"""An export gives the rows of the run's encoder, without the run; what is damaged or strange is refused."""

import json
import os
import re
import shutil
import signal
import sys
import warnings
import zipfile

import pytest
import tiny
import tiny_images
import torch
from click.testing import CliRunner

import stagewise
from stagewise import durable
from stagewise.cli.apply import export as export_command
from stagewise.errors import ConfigError, IntegrityError, Interrupted
from stagewise.frozen import export as writing
from stagewise.frozen.export import write_export

pytestmark = pytest.mark.usefixtures("no_peaks")


def export(run, out, stage=None, onnx=False):
    notes = []
    write_export(stagewise.open(run), stage, out, onnx, notes.append)
    return notes


@pytest.fixture(scope="module")
def audio(finished, tmp_path_factory):
    """An export of a run with a GRU on top, and the run's encoder."""
    out = tmp_path_factory.mktemp("exported") / "encoder"
    notes = export(finished / "run", out)
    return out, stagewise.open(finished / "run").encoder("context"), notes


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    stagewise.run(tiny_images.write_pipeline(folder), run=folder / "run", set={"defaults.train.epochs": 1})
    notes = export(folder / "run", folder / "encoder")
    return folder / "encoder", stagewise.open(folder / "run").encoder("two"), notes


def samples(items, length):
    return torch.randn(items, 1, length, generator=torch.Generator().manual_seed(length))


def test_the_loaded_encoder_of_audio_is_the_runs(audio):
    out, encoder, _ = audio
    loaded = stagewise.load(out)
    for items, length in ((1, 700), (2, 3001), (1, 9000)):
        torch.testing.assert_close(loaded(samples(items, length)), encoder(samples(items, length)), rtol=0, atol=1e-5)
    for name in ("hop", "receptive_field", "first", "sample_rate", "mean", "std", "channels"):
        assert getattr(loaded, name) == getattr(encoder, name), name
    assert not loaded.training
    assert not any(p.requires_grad for p in loaded.parameters())


def test_the_loaded_encoder_of_images_is_the_runs(images):
    out, encoder, _ = images
    loaded = stagewise.load(out)
    assert type(loaded) is type(encoder)
    for height, width in ((8, 8), (24, 24), (37, 50)):
        x = torch.randn(2, 1, height, width)
        torch.testing.assert_close(loaded(x), encoder(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["audio", "images"])
def test_the_program_takes_inputs_of_any_size(kind, request):
    out, encoder, notes = request.getfixturevalue(kind)
    assert notes == []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of how it reads weights
        program = torch.export.load(out / "model.pt2").module()
    shapes = [(1, 1, 701), (3, 1, 4321)] if kind == "audio" else [(1, 1, 13, 30), (3, 1, 40, 24)]
    for shape in shapes:
        x = torch.randn(shape)
        torch.testing.assert_close(program(x), encoder(x), rtol=0, atol=1e-5)
    written = durable.read_sealed(out / "config.json", "")["max_difference"]["model.pt2"]
    assert 0 <= written < 1e-5
    assert all(encoder(torch.randn(shape)).isfinite().all() for shape in shapes)


def test_a_lower_stage_alone(finished, tmp_path):
    export(finished / "run", tmp_path / "two", "two")
    shutil.copytree(tmp_path / "two", tmp_path / "moved")
    x = samples(1, 2000)
    wanted = stagewise.open(finished / "run").encoder("two")(x)
    torch.testing.assert_close(stagewise.load(tmp_path / "moved")(x), wanted, rtol=0, atol=1e-5)
    assert [s["name"] for s in durable.read_sealed(tmp_path / "two" / "config.json", "")["stages"]] == ["one", "two"]


def test_nothing_in_it_is_more_than_bytes_and_json(audio):
    out, _, _ = audio
    assert {path.name for path in out.iterdir()} == {"README.md", "config.json", "model.pt2", "model.safetensors"}
    with zipfile.ZipFile(out / "model.pt2") as archive:
        for name in archive.namelist():
            assert not archive.read(name).startswith((b"\x80", b"PK")), name


def test_the_card_says_what_it_is(audio):
    card = (audio[0] / "README.md").read_text()
    for words in ("FILL IN", "stagewise.load(", "12 items", "| one | conv1d | infonce | 2 |", "16,000 Hz"):
        assert words in card
    assert "encoder.embed(" not in card  # its data set reads in a way of its own
    assert re.search(r"\| speaker \| context \| accuracy \d\.\d{3} \|", card)
    assert re.search(r"`model.pt2`: .* largest difference ", card)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_changed_byte_or_a_missing_file_is_refused(audio, tmp_path, name):
    shutil.copytree(audio[0], tmp_path / "copy")
    file = tmp_path / "copy" / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"(not what was written|is damaged).*Type `stagewise export RUN"):
        stagewise.load(tmp_path / "copy")
    file.unlink()
    with pytest.raises((IntegrityError, ConfigError), match="stagewise export RUN --out DIR"):
        stagewise.load(tmp_path / "copy")


def test_programs_may_be_taken_away(audio, tmp_path):
    shutil.copytree(audio[0], tmp_path / "copy")
    (tmp_path / "copy" / "model.pt2").unlink()
    assert stagewise.load(tmp_path / "copy").channels == 6


def test_weights_of_another_network_are_refused(audio, tmp_path):
    out = changed(audio[0], tmp_path / "x", lambda s: s["stages"][2]["context"].update(hidden_size=7))
    with pytest.raises(
        IntegrityError, match=r"(?s)model.safetensors does not fit .*config.json: .*Type `stagewise export RUN"
    ):
        stagewise.load(out)


def changed(folder, out, change):
    shutil.copytree(folder, out)
    settings = durable.read_sealed(out / "config.json", "")
    change(settings)
    durable.write_sealed(out / "config.json", settings)
    return out


@pytest.mark.parametrize("target", ["subprocess:Popen", "os:system", "torch.optim:Adam", "stagewise.stores:Store"])
def test_a_target_that_is_no_module_is_not_called(audio, tmp_path, target):
    out = changed(audio[0], tmp_path / "x", lambda s: s["stages"][0]["encoder"].update(target=target))
    with pytest.raises(ConfigError, match="target"):
        stagewise.load(out)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("files"),
        lambda s: s["files"].pop("model.safetensors"),
        lambda s: s["files"].update({"../../secret": "0" * 64}),
        lambda s: s.update(stages=[]),
        lambda s: s["stages"][0]["encoder"].pop("target"),
        lambda s: s["stages"][0].update(encoder="conv1d"),
        lambda s: s.update(format=2),
        lambda s: s["input"].update(row_shape=[1, 2]),
        lambda s: s["input"].update(row_shape=[1, 8, 8]),
        lambda s: s["input"].update(reads={"kind": "audio"}),
        lambda s: s["input"].update(mean=[0.0], std=[1.0]),
        lambda s: s["input"]["reads"].update(kind="image"),
        lambda s: (s["input"]["reads"].update(kind="audio"), s["input"].update(sample_rate=None)),
        lambda s: s["stages"][1]["encoder"].update(out_channels=9),
    ],
)
def test_settings_that_do_not_hold_together_are_refused(audio, tmp_path, change):
    with pytest.raises((IntegrityError, ConfigError), match=r"config.json"):
        stagewise.load(changed(audio[0], tmp_path / "x", change))


def test_what_fails_leaves_nothing(finished, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "model_card", fail)
    monkeypatch.setattr(writing, "write_program", lambda *_: "model.pt2 is left out: not asked for.")
    with pytest.raises(KeyboardInterrupt):
        export(finished / "run", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_signal_leaves_nothing_and_says_so(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "write_program", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match=r"stopped by SIGTERM: nothing is kept. Type .* again to start over\.$"):
        export(finished / "run", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("onnx", [False, True])
def test_a_second_signal_ends_at_once(finished, tmp_path, monkeypatch, onnx):
    """Whatever it interrupts, it is not taken for a program that cannot be written."""

    def slow(*_, **__):
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)

    if onnx:
        pytest.importorskip("onnxscript")
        monkeypatch.setattr(writing, "write_program", lambda *_: "model.pt2 is left out: not asked for.")
    monkeypatch.setattr(torch.onnx if onnx else torch.export, "export", slow)
    with pytest.raises(Interrupted, match="stopped at once by a second SIGINT"):
        export(finished / "run", tmp_path / "out", onnx=onnx)
    assert not list(tmp_path.iterdir())


def test_a_program_that_cannot_be_written_is_left_out_in_words(finished, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("a loop of unknown length.\nand much more")

    monkeypatch.setattr(torch.export, "export", refuse)
    assert export(finished / "run", tmp_path / "out") == ["model.pt2 is left out: a loop of unknown length."]
    assert "model.pt2 is left out" in (tmp_path / "out" / "README.md").read_text()
    assert stagewise.load(tmp_path / "out").channels == 6
    assert json.loads((tmp_path / "out" / "config.json").read_bytes())["files"].keys() == {"model.safetensors"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["audio", "images"])
def test_onnx_gives_the_same(kind, request, tmp_path):
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder, encoder, _ = request.getfixturevalue(kind)
    run = request.getfixturevalue("finished") / "run" if kind == "audio" else folder.parent / "run"
    assert export(run, tmp_path / "out", onnx=True) == []
    session = ort.InferenceSession(tmp_path / "out" / "model.onnx", providers=["CPUExecutionProvider"])
    for shape in [(1, 1, 701), (3, 1, 4321)] if kind == "audio" else [(1, 1, 13, 30), (3, 1, 40, 24)]:
        x = torch.randn(shape)
        (z,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(z), encoder(x), rtol=0, atol=1e-5)


def test_without_onnx_it_says_what_to_install(finished, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'stagewise\[onnx\]'"):
        export(finished / "run", tmp_path / "out", onnx=True)


def test_bfloat16_stages_keep_their_precision(tmp_path):
    file = tiny.write_pipeline(tmp_path, tiny.TOML.replace('precision = "float32"', 'precision = "bfloat16"'))
    stagewise.run(file, run=tmp_path / "run", set={"defaults.train.epochs": 0})
    export(tmp_path / "run", tmp_path / "out", "two")
    x = samples(1, 2000)
    wanted = stagewise.open(tmp_path / "run").encoder("two")(x)
    torch.testing.assert_close(stagewise.load(tmp_path / "out")(x), wanted, rtol=0, atol=0)


def test_the_command(finished, tmp_path):
    done = CliRunner().invoke(
        export_command,
        [str(finished / "run"), "--stage", "one", "--out", str(tmp_path / "out")],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    assert done.stdout == f"{tmp_path / 'out'}\n"
    assert done.stderr.endswith(f'Load it with stagewise.load("{tmp_path / "out"}")\n')
    assert stagewise.load(tmp_path / "out").hop == 5
    assert CliRunner().invoke(export_command, [str(finished / "run")]).exit_code == 2  # where to is not said
