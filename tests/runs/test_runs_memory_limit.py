"""What a forecast decides: whether a run keeps a limit of memory, in pieces or not at all, and what no step can do."""

import numpy as np
import pytest
import safetensors.numpy
import tiny
import tiny_images

import stagewise
from stagewise.errors import ConfigError
from stagewise.pipeline import load_pipeline
from stagewise.runner import plan_pipeline
from stagewise.runs.folder import RunFolder


def test_memory_limit_is_met_by_pieces_with_nearly_the_same_weights(tmp_path):
    text = tiny.TOML.replace("window = 16", "window = 64")
    file = tiny.write_pipeline(tmp_path, text)
    sets = {"data.seconds": 1.0, "stage.two.encoder.out_channels": 8}
    free = stagewise.run(file, run=tmp_path / "free", set=sets, until="two")
    peak = free["stages"][1]["memory"]["predicted_peak_bytes"]
    tight = plan_with_limit(file, tmp_path, sets, peak)
    assert tight is not None
    limit, pieces = tight
    assert pieces > 1
    facts = stagewise.run(file, run=tmp_path / "tight", set={**sets, "pipeline.memory_limit": limit}, until="two")
    stage = facts["stages"][1]
    assert stage["memory"]["pieces"] == pieces
    assert stage["memory"]["predicted_peak_bytes"] <= limit < peak
    assert stage["memory"]["measured_peak_bytes"] <= 1.15 * limit
    one, other = (
        safetensors.numpy.load_file(next((tmp_path / run / "stages").glob("2-two-*/encoder.safetensors")))
        for run in ("free", "tight")
    )
    for key, value in one.items():
        np.testing.assert_allclose(other[key], value, atol=1e-3)


def plan_with_limit(file, tmp_path, sets, peak):
    """Lower the limit until stage two needs pieces."""
    for share in (0.95, 0.9, 0.85, 0.8, 0.75):
        limit = int(peak * share)
        pipeline = load_pipeline(file, {**sets, "pipeline.memory_limit": limit})
        try:
            planned = plan_pipeline(pipeline, RunFolder(tmp_path / "unused"))
        except ConfigError:
            return None
        if planned.stages[1].forecast.pieces > 1:
            return limit, planned.stages[1].forecast.pieces
    return None


def test_a_limit_that_cannot_be_met_says_what_to_change(tmp_path):
    file = tiny.write_pipeline(tmp_path)
    with pytest.raises(ConfigError, match=r"even in pieces a step needs .* Raise pipeline.memory_limit to"):
        stagewise.run(file, run=tmp_path / "run", set={"pipeline.memory_limit": 1000})


@pytest.mark.parametrize("schedule", ["iterative", "simultaneous"])
def test_images_meet_a_limit_by_pieces_with_nearly_the_same_weights(tmp_path, schedule):
    file = tiny_images.write_pipeline(tmp_path)
    sets = {"pipeline.schedule": schedule, "data.size": 28, "defaults.train.epochs": 1}
    free = stagewise.run(file, run=tmp_path / "free", set=sets, until="one")["stages"][0]["memory"]
    limit = int(0.8 * free["predicted_peak_bytes"])
    sets["pipeline.memory_limit"] = limit
    tight = stagewise.run(file, run=tmp_path / "tight", set=sets, until="one")["stages"][0]["memory"]
    assert tight["pieces"] > 1 == free["pieces"]
    assert tight["predicted_peak_bytes"] <= limit
    assert tight["measured_peak_bytes"] < free["measured_peak_bytes"]
    one, other = (
        safetensors.numpy.load_file(next((tmp_path / name / "stages").glob("1-one-*/encoder.safetensors")))
        for name in ("free", "tight")
    )
    for key, value in one.items():
        np.testing.assert_allclose(other[key], value, atol=1e-3)


@pytest.mark.parametrize(
    "objective",
    [
        {"target": "infonce-grid", "steps": 5},  # a grid of 4 rows is too short for
        {"target": "infonce", "steps": 2},  # is for rows, not for grids
    ],
)
def test_an_objective_that_cannot_score_the_crops_is_a_mistake_in_the_file(tmp_path, objective):
    pipeline = load_pipeline(tiny_images.write_pipeline(tmp_path), {"stage.one.objective": objective})
    with pytest.raises(ConfigError, match=r"stage\.one"):
        plan_pipeline(pipeline, RunFolder(tmp_path / "run"))
