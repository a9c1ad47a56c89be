"""Commands say which run they use, and what a user would not want to find out later."""

import pytest
import tiny
from click.testing import CliRunner

import stagewise
from stagewise.cli.main import main


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with tiny.toml, a run of it, and one of random weights."""
    folder = tmp_path_factory.mktemp("which")
    file = tiny.write_pipeline(folder)
    stagewise.run(file, run=folder / "runs/tiny", set={"defaults.train.epochs": 1})
    stagewise.run(file, run=folder / "runs/random", set={"defaults.train.epochs": 0, "probe": []})
    return folder


def test_export_names_its_run_and_says_that_weights_are_random(home, monkeypatch):
    monkeypatch.chdir(home)
    done = call("export", "runs/tiny", "--out", "trained")
    assert (done.exit_code, "stage context of runs/tiny" in done.stderr) == (0, True)
    assert "weights are random" not in done.stderr + (home / "trained/README.md").read_text()
    done = call("export", "runs/random", "--stage", "two", "--out", "untrained")
    assert "stage two of runs/random" in done.stderr
    assert "warning: one, two was trained for no epoch: its weights are random." in done.stderr
    assert "**one, two: trained for no epoch, the weights are random.**" in (home / "untrained/README.md").read_text()


def test_a_run_says_what_it_is(home):
    assert repr(stagewise.open(home / "runs/tiny")).endswith("/runs/tiny: finished one, two, context>")


def test_clean_says_when_it_deletes_the_only_finished_stage(home, monkeypatch):
    monkeypatch.chdir(home)
    assert call("run", "tiny.toml", "--set", "defaults.train.epochs=3", "--until", "one").exit_code == 0
    done = call("clean", "runs/tiny")  # nothing is typed: nothing is deleted
    assert "is the only finished two: with the settings of today it is not finished yet." in done.stderr
    assert "is the only finished context" in done.stderr
    assert "is the only finished one:" not in done.stderr
    done = call("embed", "runs/tiny", "tiny.toml", "--out", "x.npz")
    assert (
        "stage two of runs/tiny is not finished: type the command that made it again, with its --set, or" in done.stderr
    )


def test_plan_refuses_what_run_would(home, monkeypatch):
    monkeypatch.chdir(home)
    done = call("plan", "tiny.toml", "--set", 'probe.speaker.labels="speakr"')
    assert (done.exit_code, "this data set has no label 'speakr'" in done.stderr) == (1, True)


def test_probe_without_probes(home, monkeypatch):
    monkeypatch.chdir(home)
    done = call("probe", "--run", "runs/random")
    assert (done.exit_code, "runs/random has no probes: write a [[probe]]" in done.stderr) == (2, True)


def test_a_folder_of_data_is_looked_for_from_here(home, monkeypatch):
    monkeypatch.chdir(home)
    done = call("plan", "tiny.toml", "--set", "data.target=audio-folder", "--set", "data.root=nowhere")
    assert f"cannot read nowhere (No such file or directory, from {home}): correct data.root" in done.stderr
