"""Where an export may be written, and what it replaces; runs and exports are not taken for each other."""

import os

import pytest

import stagewise
from stagewise.errors import ConfigError, IntegrityError
from stagewise.frozen import export as writing
from stagewise.frozen.export import write_export
from stagewise.runs.folder import is_export

pytestmark = pytest.mark.usefixtures("no_peaks")


def export(run, out, stage=None, onnx=False):
    notes = []
    write_export(stagewise.open(run), stage, out, onnx, notes.append)
    return notes


@pytest.mark.parametrize("names", [["thesis.tex"], ["README.md"], ["README.md", "config.json", "model.safetensors"]])
def test_a_folder_that_is_there_is_left_alone(finished, tmp_path, names):
    (tmp_path / "mine").mkdir()
    for name in names:  # a model of Hugging Face has the last ones
        (tmp_path / "mine" / name).write_text('{"model_type": "bert"}')
    for force in (False, True):
        with pytest.raises(ConfigError, match="is there already, and is not what this command writes"):
            write_export(stagewise.open(finished / "run"), None, tmp_path / "mine", False, print, force)
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == sorted(names)
    with pytest.raises((ConfigError, IntegrityError), match="is not an export|is damaged"):
        stagewise.load(tmp_path / "mine")
    with pytest.raises(ConfigError, match="there is no folder"):
        export(finished / "run", tmp_path / "no" / "place")


@pytest.mark.parametrize("length", [0, 200])
def test_an_export_whose_settings_are_cut_off_is_still_one(finished, tmp_path, monkeypatch, length):
    monkeypatch.setattr(writing, "write_program", lambda *_: "model.pt2 is left out: not asked for.")
    run, out = stagewise.open(finished / "run"), tmp_path / "encoder"
    export(run.path, out, "one")
    os.truncate(out / "config.json", length)
    with pytest.raises(IntegrityError, match=r"config.json .*Type `stagewise export RUN --out DIR --force`"):
        stagewise.load(out)
    assert is_export(out)
    write_export(run, "one", out, False, print, force=True)
    stagewise.load(out)


def test_an_export_is_replaced_once_the_new_one_is_whole(finished, tmp_path, monkeypatch):
    run, out = stagewise.open(finished / "run"), tmp_path / "encoder"
    monkeypatch.setattr(writing, "write_program", lambda *_: "model.pt2 is left out: not asked for.")
    export(run.path, out, "one")
    with pytest.raises(ConfigError, match=r"encoder is there already: name another, or type --force to replace it"):
        export(run.path, out, "two")
    card = writing.model_card

    def look(*facts):
        assert stagewise.load(out).name == "one"
        raise KeyboardInterrupt

    monkeypatch.setattr(writing, "model_card", look)
    with pytest.raises(KeyboardInterrupt):
        write_export(run, "two", out, False, print, force=True)
    assert stagewise.load(out).name == "one"
    monkeypatch.setattr(writing, "model_card", card)
    write_export(run, "two", out, False, print, force=True)
    assert stagewise.load(out).name == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["encoder"]


def test_a_run_and_an_export_taken_for_each_other(finished, tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "write_program", lambda *_: "model.pt2 is left out: not asked for.")
    export(finished / "run", tmp_path / "encoder", "one")
    with pytest.raises(ConfigError, match=r"encoder is an export, not a run: `stagewise embed .*stagewise.load\("):
        stagewise.open(tmp_path / "encoder")
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "model.safetensors").touch()  # a model of Hugging Face
    with pytest.raises(ConfigError, match=r"hf is not a run \(it has no pipeline.lock.json\)"):
        stagewise.open(tmp_path / "hf")
    with pytest.raises(ConfigError, match=r"run is a run, not an export: type stagewise.open\('.*'\).encoder\(\)"):
        stagewise.load(finished / "run")
