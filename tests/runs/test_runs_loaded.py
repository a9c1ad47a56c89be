"""Weights that a class loads from a file: what it holds counts, it is not called random, and needed no more later."""

import json
import shutil
from pathlib import Path

import pytest
import tiny
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file
from torch import nn

import stagewise
from stagewise.cli.main import main
from stagewise.errors import ConfigError
from stagewise.objectives import Objective, Score
from stagewise.pipeline import load_pipeline
from stagewise.planning.build import start_of
from stagewise.runner import plan_pipeline
from stagewise.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_peaks")
TOML = tiny.TOML.replace(
    'encoder = { target = "conv1d", in_channels = 1, out_channels = 8, kernel_size = 10, stride = 5, padding = 2 }',
    'encoder = { target = "test_runs_loaded:Pretrained", weights = "w.safetensors" }',
)
TOML = TOML[: TOML.index("[[probe]]")]


class Pretrained(nn.Conv1d):
    """A convolution that begins with weights of a file, and is trained no more if it shall not be."""

    file_arguments = ("weights",)

    def __init__(self, weights: str | None = None, tune: bool = False) -> None:
        super().__init__(1, 8, 10, 5, 2)
        if weights is not None:
            self.load_state_dict(load_file(weights))
        self.requires_grad_(tune)


class Undeclared(nn.Conv1d):
    """Says nothing of the file that it loads."""

    def __init__(self, path: str) -> None:
        super().__init__(1, 8, 10, 5, 2)
        self.load_state_dict(load_file(path))


class Wrong(Pretrained):
    file_arguments = "weights"


class Plain(Objective):
    """Has no parameters."""

    def __init__(self, z_channels: int, c_channels: int) -> None:
        super().__init__()

    def forward(self, z_BCT, c_BDT, generator=None):
        return Score(z_BCT.square().mean())


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw("w.safetensors", 1)
    return tmp_path


def draw(name, seed):
    torch.manual_seed(seed)
    save_file(nn.Conv1d(1, 8, 10, 5, 2).state_dict(), name)


def plan(*sets):
    file = tiny.write_pipeline(Path(), TOML)
    return plan_pipeline(load_pipeline(file, sets), RunFolder(Path("run"))).stages


def call(*words):
    result = CliRunner().invoke(main, [*map(str, words)])
    assert result.exit_code == 0, result.output
    return result.output


def test_what_the_file_holds_counts_wherever_it_lies(home):
    tiny.write_pipeline(home, TOML)
    said = call("run", "tiny.toml", "--run", "run")
    assert "stage one: nothing in it can be trained: it is frozen as it is" in said
    assert "one › done after 0 epochs (nothing was trained)" in said
    assert [stage.action for stage in plan()] == ["cached"] * 3
    shutil.move("w.safetensors", "moved.safetensors")
    with pytest.raises(ConfigError, match=r"stage.one.encoder.weights: there is no file w.safetensors; paths start"):
        plan()
    moved = "stage.one.encoder.weights=moved.safetensors"
    assert [stage.action for stage in plan(moved)] == ["cached"] * 3
    draw("moved.safetensors", 2)
    first, *others = plan(moved)
    assert first.action == "train"
    assert first.reason.startswith('encoder.weights: "sha256 ')
    assert {stage.reason for stage in others} == {"the stage below changed"}


def test_a_probe_beside_before_training_reads_once_what_is_not_trained(home):
    """It says so in the plan and in the run, and no more time is reckoned for it."""
    probe = '[[probe]]\nname = "speaker"\nstages = "all"\nlabels = "speaker"\npool = "mean"\n'
    tiny.write_pipeline(home, TOML + probe)
    words = ["tiny.toml", "--run", "run", "--set", "probe.speaker.random=true", "--set", "defaults.train.epochs=1"]
    said = " ".join(call("plan", *words).split())
    assert "and from the same stages before training (one once: nothing is trained there)" in said
    said = " ".join(call("run", *words).split())
    assert "probe speaker: one read once, since nothing is trained there: it was the same before training." in said
    beside = {each["stage"]: each["random"] is None for each in stagewise.open("run").facts["probes"]}
    assert beside == {"one": True, "two": False, "context": False}


def test_they_are_not_called_random_and_their_file_is_needed_no_more(home):
    tiny.write_pipeline(home, TOML)
    call("run", "tiny.toml", "--run", "run", "--set", "defaults.train.epochs=1")
    train = {stage["name"]: stage["train"] for stage in stagewise.open("run").facts["stages"]}
    assert [(each["start"], each["epochs"]) for each in train.values()] == [("loaded", 0), ("random", 1), ("random", 1)]
    Path("w.safetensors").unlink()
    said = call("export", "run", "--stage", "one", "--out", "encoder")
    assert "random" not in said
    card = Path("encoder/README.md").read_text()
    assert "one: trained for no epoch, the weights are as they were loaded." in card
    assert "random" not in card.replace("random seed", "")
    assert json.loads(Path("encoder/config.json").read_bytes())["stages"][0]["encoder"] == {
        "target": "test_runs_loaded:Pretrained"
    }
    x = torch.randn(1, 1, 4000)
    torch.testing.assert_close(stagewise.load("encoder")(x), stagewise.open("run").encoder("one")(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("encoder", "start", "epochs"),
    [
        ('{ target = "test_runs_loaded:Pretrained", weights = "w.safetensors", tune = true }', "loaded", 2),
        ('{ target = "test_runs_loaded:Pretrained", tune = true }', "random", 2),
        ('{ target = "test_runs_loaded:Pretrained" }', "random", 0),
        ('{ target = "test_runs_loaded:Undeclared", path = "w.safetensors" }', "loaded", 2),
    ],
)
def test_what_a_stage_begins_with(home, encoder, start, epochs):
    text = TOML.replace('{ target = "test_runs_loaded:Pretrained", weights = "w.safetensors" }', encoder)
    notes, pipeline = [], load_pipeline(tiny.write_pipeline(home, text), {})
    plan = plan_pipeline(pipeline, RunFolder(Path("run")), lambda kind, **facts: notes.append(facts.get("text", kind)))
    stage = plan.stages[0].built
    assert (start_of(pipeline.pipeline.seed, stage, plan.device), stage.epochs) == (start, epochs)
    said = 'give Undeclared the line file_arguments = ("path",)'
    assert any(said in note for note in notes) == ("Undeclared" in encoder)


def test_what_is_no_path_and_no_list_of_arguments(home):
    with pytest.raises(ConfigError, match="weights is 3: give it the path of a file"):
        plan("stage.one.encoder.weights=3")
    with pytest.raises(ConfigError, match="its file_arguments is 'weights': name the arguments of its constructor"):
        plan("stage.one.encoder.target=test_runs_loaded:Wrong")


@pytest.mark.parametrize("schedule", ["iterative", "simultaneous"])
def test_a_stage_without_any_parameter(home, schedule, peaks):
    text = TOML.replace(
        '{ target = "test_runs_loaded:Pretrained", weights = "w.safetensors" }\n',
        '{ target = "torch.nn:AvgPool1d", kernel_size = 10, stride = 5 }\n'
        'objective = { target = "test_runs_loaded:Plain", window = 16 }\n',
    ).replace("in_channels = 8, out_channels = 8", "in_channels = 1, out_channels = 8")
    tiny.write_pipeline(home, text)
    call("run", "tiny.toml", "--set", "defaults.train.epochs=1", "--set", f"pipeline.schedule={schedule}")
    stages = stagewise.open("runs/tiny").facts["stages"]
    in_sync = schedule == "simultaneous"
    assert [stage["train"]["epochs"] for stage in stages] == [int(in_sync), 1, 1]
    assert all(stage["memory"]["predicted_peak_bytes"] > 1 for stage in stages)
    assert stagewise.open("runs/tiny").untrained("context") == []
