"""What `run` would refuse once it trains, `plan` refuses before: with the same words."""

import optimizers
import pytest
from small_files import png, wav

from stagewise.errors import StagewiseError
from stagewise.pipeline import load_text
from stagewise.probing.run import planned_probes
from stagewise.runner import make, plan_pipeline, quiet
from stagewise.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_peaks")

IMAGES = """
format = 1
[pipeline]
name = "x"
[data]
target = "image-folder"
root = "ROOT"
patch = 8
stride = 4
crop = 32
[defaults.train]
epochs = 1
[defaults.objective]
target = "infonce-grid"
steps = 3
negatives = 4
[[stage]]
name = "one"
encoder = { target = "resnet", in_channels = 1, planes = 2, blocks = 1, stem = 2 }
"""
AUDIO = """
format = 1
[pipeline]
name = "x"
[data]
target = "audio-folder"
root = "ROOT"
labels = { class = "folder" }
[defaults.train]
epochs = 1
[defaults.objective]
window = 32
[[stage]]
name = "one"
encoder = { target = "conv1d", in_channels = 1, out_channels = 4, kernel_size = 400, stride = 40 }
[[stage]]
name = "two"
context = { target = "gru", input_size = 4, hidden_size = 4 }
"""
PROBE = """
[[probe]]
name = "p"
stages = "all"
labels = "class"
pool = "mean"
"""


def refusals(folder, toml, **sets):
    """What `plan` and `run` say, and how many steps the latter trained."""
    pipeline, steps = load_text(toml.replace("ROOT", str(folder)), "x.toml", sets), []
    with pytest.raises(StagewiseError) as planned:
        planned_probes(plan_pipeline(pipeline, RunFolder(folder / "run")))
    with pytest.raises(StagewiseError) as run:
        make(pipeline, RunFolder(folder / "run"), lambda kind, **_: steps.append(kind) if kind == "step" else None)
    assert str(planned.value) == str(run.value)
    assert not steps
    return str(planned.value)


def test_a_crop_that_is_larger_than_every_picture(tmp_path):
    for number in range(4):
        png(tmp_path / "ab"[number % 2] / f"{number}.png", 44, 44)
    words = refusals(tmp_path, IMAGES, **{"data.crop": 48})
    assert "stage one: no training image holds a crop of 11 × 11 patches" in words
    assert "--set data.crop=44" in words
    make(
        load_text(IMAGES.replace("ROOT", str(tmp_path)), "x.toml", {"data.crop": 44}), RunFolder(tmp_path / "r"), quiet
    )


def test_a_crop_or_a_window_that_only_a_test_item_holds(tmp_path):
    for number in range(6):
        png(tmp_path / "images" / "a" / f"{number}.png", 44, 44)
        wav(tmp_path / "audio" / "a" / f"{number}.wav", 0.2)
    png(tmp_path / "images" / "a" / "large.png", 60, 60)
    wav(tmp_path / "audio" / "a" / "long.wav", 1.0)
    for kind, name in (("images", "large.png"), ("audio", "long.wav")):
        (tmp_path / f"{kind}-test").write_text(f"a/{name}\n")
        (tmp_path / f"{kind}-train").write_text("".join(f"a/{n}{name[-4:]}\n" for n in range(6)))
    lists = [{"test": str(tmp_path / f"{k}-test"), "train": str(tmp_path / f"{k}-train")} for k in ("images", "audio")]
    words = refusals(tmp_path / "images", IMAGES, **{"data.crop": 60, "data.splits": lists[0]})
    assert "no training image holds a crop" in words
    words = refusals(tmp_path / "audio", AUDIO, **{"data.splits": lists[1], "stage.two.objective.window": 100})
    assert "stage two: no training item is long enough for a window of 100 rows" in words


def test_a_probe_whose_recordings_are_all_too_short_for_a_row(tmp_path):
    for voice in "ab":
        for number in range(5):
            wav(tmp_path / "in" / voice / f"{number}.wav", 0.2)
            wav(tmp_path / "short" / voice / f"{number}.wav", 0.02)
    data = {"target": "audio-folder", "root": str(tmp_path / "short"), "labels": {"class": "folder"}}
    words = refusals(tmp_path / "in", AUDIO + PROBE, **{"probe.p.data": data})
    assert words.startswith("probe p: no training item has a label 'class' and a row of stage one.")


def test_an_optimizer_of_a_probe_that_refuses_its_arguments(tmp_path):
    for number in range(10):
        wav(tmp_path / "ab"[number % 2] / f"{number}.wav", 0.2)
    words = refusals(tmp_path, AUDIO + PROBE, **{"probe.p.optimizer.lr": -1.0})
    assert "probe.p.optimizer.lr" in words
    assert "Invalid learning rate: -1.0" in words


@pytest.mark.parametrize("kind", sorted(optimizers.REFUSED))
def test_optimizers_that_nothing_can_be_trained_with(tmp_path, kind):
    for number in range(10):
        wav(tmp_path / "ab"[number % 2] / f"{number}.wav", 0.2)
    for part in ("stage.one.train", "probe.p"):
        words = refusals(tmp_path, AUDIO + PROBE, **{f"{part}.optimizer": {"target": f"torch.optim:{kind}"}})
        assert f"{part}.optimizer" in words
        assert optimizers.REFUSED[kind] in words


def test_looking_at_many_files_is_told(tmp_path):
    for number in range(70):
        wav(tmp_path / "in" / "ab"[number % 2] / f"{number}.wav", 0.2)
    told = []
    pipeline = load_text(AUDIO.replace("ROOT", str(tmp_path / "in")), "x.toml")
    plan_pipeline(pipeline, RunFolder(tmp_path / "run"), lambda kind, **facts: told.append((kind, facts)))
    assert told == [("look", {"what": "audio", "files": files, "of": 70}) for files in (64, 70)]
