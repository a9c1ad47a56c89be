"""Probes on random weights: the same stages before training, beside what was trained."""

import math

import pytest
import tiny
import tiny_images
import torch

import stagewise
from stagewise import durable
from stagewise.runner import run_pipeline
from stagewise.runs.folder import RunFolder
from stagewise.runs.verdict import BETTER, GUESSING, LIKE_GUESSING, UNSURE, WORSE, above_guessing, verdict
from stagewise.training.checkpoint import read_tensors

pytestmark = pytest.mark.usefixtures("no_peaks")


def run(kind, folder, name="run", **sets):
    """Run a tiny pipeline; return its probes by name and stage, and what was fitted."""
    fitted = []
    facts = run_pipeline(
        kind.write_pipeline(folder),
        run=folder / name,
        set=sets,
        report=lambda kind, **facts: fitted.append((facts["stage"], facts["random"])) if kind == "probed" else None,
    )
    return {(probe["name"], probe["stage"]): probe for probe in facts["probes"]}, fitted


@pytest.mark.parametrize(
    ("kind", "name", "dtype", "keep"),
    [(tiny, "phones", "int8", True), (tiny, "speaker", "float16", False), (tiny_images, "class", "int8", True)],
)
def test_they_are_what_a_run_without_training_finds(tmp_path, kind, name, dtype, keep):
    sets = {f"probe.{name}.random": True, "defaults.store.dtype": dtype, "defaults.store.keep": keep}
    trained, _ = run(kind, tmp_path, **sets)
    start, fitted = run(kind, tmp_path, "start", **sets, **{"defaults.train.epochs": 0})
    for tensors in tmp_path.glob("start/probes/*/probe.safetensors"):
        (beside,) = (
            tmp_path.glob(f"run/probes/{tensors.parent.name[:-8]}random-*/probe.safetensors")
            if (tensors.parent.name.startswith(f"{name}-"))
            else [tensors]
        )
        for found, expected in zip(*(read_tensors(path).values() for path in (beside, tensors)), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not any(random for _, random in fitted)  # it is that itself
    beside = {key: probe["random"] for key, probe in trained.items() if key[0] == name}
    assert beside
    for key, random in beside.items():
        assert start[key]["random"] is None
        assert random == {"value": start[key]["value"], "interval": start[key]["interval"]}
        difference, (low, high) = trained[key]["paired"]["difference"], trained[key]["paired"]["interval"]
        assert difference == pytest.approx(trained[key]["value"] - random["value"])
        assert -1 <= low <= difference <= high <= 1
    assert all(probe["random"] is None for key, probe in trained.items() if key[0] != name)


def test_they_stay_when_the_training_changes_and_go_when_the_network_does(tmp_path):
    _, first = run(tiny, tmp_path, **{"probe.speaker.random": True, "probe.speaker.stages": ["one"]})
    assert sorted(first, key=str) == [("context", False), ("one", False), ("one", True)]
    sets = {"probe.speaker.random": True, "probe.speaker.stages": ["one"]}
    _, longer = run(tiny, tmp_path, **sets, **{"stage.one.train.epochs": 3})
    assert ("one", False) in longer
    assert ("one", True) not in longer
    _, other = run(tiny, tmp_path, **sets, **{"pipeline.seed": 5})
    assert ("one", True) in other


def test_a_run_is_not_complete_without_them(tmp_path):
    run(tiny, tmp_path)
    probes, fitted = run(tiny, tmp_path, **{"probe.speaker.random": True})
    assert fitted
    assert all(random for _, random in fitted)  # those on trained weights are there
    folder = RunFolder(tmp_path / "run")
    (path,) = folder.path.glob("probes/speaker-context-random-*")
    durable.remove(path)
    facts = stagewise.open(folder.path).facts
    assert facts["state"] == "partial"
    assert len(facts["probes"]) == len(probes) - 1


@pytest.mark.parametrize(
    ("value", "random", "said"),
    [(0.5, None, GUESSING), (0.4, 0.3, GUESSING), (0.54, 0.3, LIKE_GUESSING), (0.55, 0.9, WORSE), (0.4, 0.46, WORSE),
     (0.6, None, ""), (0.6, 0.66, WORSE), (0.6, 0.65, UNSURE), (0.6, 0.55, UNSURE), (0.6, 0.54, BETTER)],
)  # fmt: skip
def test_a_verdict(value, random, said):
    other = None if random is None else {"value": random, "interval": [random - 0.05, random + 0.05]}
    found = {"value": value, "interval": [value - 0.05, value + 0.05], "majority": 0.5, "random": other}
    assert verdict({**found, "paired": None})[1] == said  # of an older version
    if random is not None:
        difference = value - random
        paired = {"difference": difference, "interval": [difference - 0.055, difference + 0.055]}
        assert verdict({**found, "paired": paired})[1] == said


def test_a_verdict_is_that_of_the_difference():
    found = {"value": 0.6, "interval": [0.5, 0.7], "majority": 0.4, "random": {"value": 0.55, "interval": [0.45, 0.65]}}
    for interval, said in (([0.01, 0.09], "better"), ([-0.01, 0.1], "unclear"), ([-0.3, -0.1], "worse")):
        assert verdict({**found, "paired": {"difference": 0.05, "interval": interval}})[0] == said
    alone = {**found, "random": None, "paired": None}
    for majority, said in ((0.4, "better"), (0.5, "unclear"), (0.6, "unclear"), (0.71, "worse")):
        assert verdict({**alone, "majority": majority})[0] == said


def test_older_versions_found_no_verdict_between_intervals_that_overlap():
    found = {"value": 0.6, "interval": [0.55, 0.65], "majority": 0.5, "paired": None}
    assert verdict({**found, "random": {"value": 0.7, "interval": [0.59, 0.8]}})[1] == UNSURE
    assert verdict({**found, "random": {"value": 0.5, "interval": [0.4, 0.61]}})[1] == UNSURE


@pytest.mark.parametrize(
    ("information", "loss", "epochs", "said"),
    [(-0.1, 2.498, 3, "its loss, 2.498, is above that of guessing, 2.398: train"), (0.1, 2.298, 3, ""),
     (-0.1, 2.498, 0, ""), (None, 2.498, 3, "")],
)  # fmt: skip
def test_a_loss_above_that_of_guessing(information, loss, epochs, said):
    words = above_guessing({"information": information, "validation_loss": loss, "epochs": epochs})
    assert words.startswith(said)
    assert bool(words) == bool(said)


def test_a_record_holds_what_its_loss_says_of_guessing(tmp_path):
    for stage in run_pipeline(tiny.write_pipeline(tmp_path), run=tmp_path / "run")["stages"]:
        train = stage["train"]
        guessing = train["validation_loss"] + train["information"]
        assert guessing == pytest.approx(math.log(round(math.exp(guessing))), abs=1e-4)  # of a whole number
