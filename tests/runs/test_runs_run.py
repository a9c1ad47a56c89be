"""A whole run: what it leaves, that it is repeatable, and that only what changed is done again."""

import json

import numpy as np
import pytest
import tiny
import zarr

import stagewise
from stagewise.errors import ConfigError, Interrupted, NumberError, StagewiseError
from stagewise.runner import make, plan_pipeline
from stagewise.runs.folder import RunFolder


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    facts = stagewise.run(tiny.write_pipeline(folder), run=folder / "run")
    return folder, facts


def plan(folder, **sets):
    from stagewise.config import load_pipeline

    sets = {key.replace("__", "."): value for key, value in sets.items()}
    return plan_pipeline(load_pipeline(folder / "tiny.toml", sets), RunFolder(folder / "run"))


def actions(folder, **sets):
    return [stage.action for stage in plan(folder, **sets).stages]


def test_facts_have_the_contracts_shape(finished):
    _, facts = finished
    assert (facts["format"], facts["pipeline"], facts["state"], facts["schedule"]) == (
        1,
        "tiny",
        "complete",
        "iterative",
    )
    assert facts["end_to_end"]["predicted_peak_bytes"] > 0
    assert [stage["name"] for stage in facts["stages"]] == ["one", "two", "context"]
    for stage in facts["stages"]:
        assert stage["state"] == "complete"
        assert stage["memory"]["measured_peak_bytes"] > 0
        categories = stage["memory"]["by_category"]
        assert set(categories) == {
            "parameters",
            "gradients",
            "optimizer",
            "activations",
            "objective",
            "input",
        }
        assert sum(categories.values()) == stage["memory"]["predicted_peak_bytes"]
        assert {
            "epochs",
            "steps",
            "seconds",
            "loss",
            "validation_loss",
            "converged",
            "data_wait_seconds",
        } <= set(stage["train"])
        assert {"state", "dtype", "rows", "bytes", "float32_bytes", "seconds", "forward_seconds"} <= set(stage["store"])
    assert len(facts["probes"]) == 4
    for probe in facts["probes"]:
        assert probe["interval"][0] <= probe["value"] <= probe["interval"][1]
    json.dumps(facts, allow_nan=False)


def test_store_is_plain_zarr_and_python_reads_it(finished):
    folder, facts = finished
    run = stagewise.open(folder / "run")
    stage = run.stages["two"]
    group = zarr.open_group(folder / "run" / "stages" / stage.folder.name / "store.zarr", mode="r")
    offsets = group["offsets"][:]
    z = group["z"][offsets[3] : offsets[4]] * group["scale"][:] + group["offset"][:]
    np.testing.assert_array_equal(z.astype(np.float32), stage.store[3])
    assert facts["stages"][1]["store"]["rows"] == offsets[-1]


def test_second_run_changes_nothing(finished):
    folder, facts = finished
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in (folder / "run" / "stages").rglob("*")}
    assert stagewise.run(folder / "tiny.toml", run=folder / "run") == facts
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in (folder / "run" / "stages").rglob("*")}
    assert actions(folder) == ["cached"] * 3


def test_another_run_gives_the_same_bytes(finished, tmp_path):
    folder, _ = finished
    stagewise.run(folder / "tiny.toml", run=tmp_path / "again")
    assert tiny.results(tmp_path / "again") == tiny.results(folder / "run")


def test_a_moved_run_still_works(finished, tmp_path):
    import shutil

    folder, facts = finished
    shutil.copytree(folder / "run", tmp_path / "moved")
    moved = stagewise.open(tmp_path / "moved")
    assert moved.facts["stages"] == facts["stages"]
    assert str(folder) not in "".join(p.read_text() for p in (tmp_path / "moved").rglob("*.json"))


def test_encoder_gives_the_rows_of_the_store(finished, tmp_path):
    import torch

    folder, _ = finished
    sets = {"defaults.store.dtype": "float32", "stage.context.store.write": True}
    stagewise.run(folder / "tiny.toml", run=tmp_path / "exact", set=sets)
    run = stagewise.open(tmp_path / "exact")
    data = tiny.TinySpeech()
    for name in ("two", "context"):
        encoder = run.encoder(name)
        x = torch.from_numpy(data.read(4, 0, int(data.lengths[4])))[None]
        np.testing.assert_allclose(encoder(x)[0].T.numpy(), run.stages[name].store[4], atol=1e-5)
        assert not encoder.training
        assert not any(p.requires_grad for p in encoder.parameters())
    assert (encoder.hop, encoder.receptive_field, encoder.sample_rate) == (40, 10 + 7 * 5 + 3 * 20, 16000)


def test_a_change_runs_the_stage_and_those_above(finished):
    folder, _ = finished
    old = tiny.results(folder / "run")
    planned = plan(folder, stage__two__objective__negatives=5)
    assert [s.action for s in planned.stages] == ["cached", "train", "train"]
    assert "objective.negatives: 4 → 5" in planned.stages[1].reason
    assert planned.stages[2].reason == "the stage below changed"
    planned = plan(folder, pipeline__seed=1)
    assert [s.action for s in planned.stages] == ["train"] * 3
    assert planned.stages[0].reason == "seed: 0 → 1"
    planned = plan(folder, data__seed=7)
    assert planned.stages[0].reason == "the data changed"
    assert tiny.results(folder / "run") == old


def test_a_change_of_the_store_alone_does_not_train_its_stage(finished):
    folder, _ = finished
    assert actions(folder, stage__two__store__dtype="float16") == ["cached", "encode", "train"]
    assert actions(folder, stage__two__store__compress="zstd") == ["cached"] * 3
    assert actions(folder, defaults__train__checkpoint="1 s") == ["cached"] * 3


def test_adopted_weights_are_the_old_ones(finished, tmp_path):
    import shutil

    folder, _ = finished
    shutil.copytree(folder / "run", tmp_path / "run")
    stagewise.run(folder / "tiny.toml", run=tmp_path / "run", set={"stage.two.store.dtype": "float16"})
    weights = {p.parent.name: p.read_bytes() for p in (tmp_path / "run" / "stages").glob("2-two-*/encoder.safetensors")}
    assert len(weights) == 2
    assert len(set(weights.values())) == 1


def test_stores_can_be_recomputed_or_dropped(tmp_path):
    file = tiny.write_pipeline(tmp_path, tiny.TOML.replace("store = { write = true }\n", ""))
    sets = {"defaults.store.write": False}
    facts = stagewise.run(file, run=tmp_path / "none", set=sets)
    assert [s["store"]["state"] for s in facts["stages"]] == ["recomputed"] * 3
    assert not list((tmp_path / "none").rglob("store.zarr"))
    sets = {"defaults.store.write": True, "defaults.store.keep": False}
    facts = stagewise.run(file, run=tmp_path / "dropped", set=sets)
    assert [s["store"]["state"] for s in facts["stages"]] == ["dropped", "dropped", "written"]
    assert stagewise.run(file, run=tmp_path / "dropped", set=sets) == facts
    with pytest.raises(ConfigError, match="stage one has no store \\(it was dropped"):
        stagewise.open(tmp_path / "dropped").stages["one"].store  # noqa: B018
    kept = stagewise.run(file, run=tmp_path / "dropped", set={"defaults.store.write": True})
    assert [s["store"]["state"] for s in kept["stages"]] == ["written"] * 3


def test_recomputed_float_rows_train_like_stored_ones(tmp_path):
    file = tiny.write_pipeline(tmp_path, tiny.TOML.replace("store = { write = true }\n", ""))
    losses = []
    for write in (True, False):
        sets = {"defaults.store.write": write, "defaults.store.dtype": "float32"}
        facts = stagewise.run(file, run=tmp_path / str(write), set=sets, until="two")
        losses.append(facts["stages"][1]["train"])
    assert losses[0]["initial_loss"] == pytest.approx(losses[1]["initial_loss"], rel=1e-6)
    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], rel=1e-3)  # last bits, after some steps


def test_memory_limit_is_met_by_pieces_with_nearly_the_same_weights(tmp_path):
    import safetensors.numpy

    text = tiny.TOML.replace("window = 16", "window = 64").replace("seconds", "seconds")
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
    from stagewise.config import load_pipeline

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


def test_nan_stops_the_stage_and_freezes_nothing(tmp_path):
    tiny.Poisoned.calls = 0
    file = tiny.write_pipeline(
        tmp_path,
        tiny.TOML.replace('target = "conv1d", in_channels = 8', 'target = "tiny:Poisoned", in_channels = 8'),
    )
    with pytest.raises(NumberError, match=r"stage two, epoch \d, step \d: the loss is nan \(items item-"):
        stagewise.run(file, run=tmp_path / "run")
    assert not list((tmp_path / "run" / "stages").glob("2-two-*/stage.json"))
    assert not list((tmp_path / "run" / "stages").glob("2-two-*/encoder.safetensors"))


def test_windows_that_fit_nowhere_are_an_error(tmp_path):
    file = tiny.write_pipeline(tmp_path)
    with pytest.raises(StagewiseError, match="no training item is long enough for a window of 900 rows"):
        stagewise.run(file, run=tmp_path / "run", set={"stage.one.objective.window": 900})


def test_interrupted_at_any_step_ends_with_the_same_bytes(finished, tmp_path):
    """Ask to stop at the n-th report, for a spread of n, and go on."""
    folder, _ = finished
    from stagewise.config import load_pipeline

    pipeline = load_pipeline(folder / "tiny.toml")
    stops = 0
    for n in range(3, 60, 9):
        run, seen = RunFolder(tmp_path / "run"), 0

        def report(kind, n=n, **facts):
            nonlocal seen
            seen += 1
            if seen == n:
                import os
                import signal

                os.kill(os.getpid(), signal.SIGTERM)

        try:
            make(pipeline, run, report)
        except Interrupted as error:
            assert error.exit_code == 143
            assert "Type the same command again" in str(error)
            stops += 1
    make(pipeline, RunFolder(tmp_path / "run"), lambda kind, **facts: None)
    assert stops > 2
    assert tiny.results(tmp_path / "run") == tiny.results(folder / "run")


def test_probe_on_its_own_data_and_bad_probes(tmp_path):
    text = tiny.TOML.replace('labels = "phones"', 'labels = "phones"\ndata = { target = "tiny:TinySpeech", seed = 9 }')
    file = tiny.write_pipeline(tmp_path, text)
    facts = stagewise.run(file, run=tmp_path / "run")
    assert facts["probes"][-1]["name"] == "phones"
    with pytest.raises(StagewiseError, match="no label 'emotion'"):
        stagewise.run(file, run=tmp_path / "run", set={"probe.speaker.labels": "emotion"})
    with pytest.raises(ConfigError, match='one class per item: set pool = "mean"'):
        stagewise.run(file, run=tmp_path / "run", set={"probe.phones.labels": "speaker"})


def test_recurrent_stage_below_another_needs_its_store(tmp_path):
    text = tiny.TOML.replace(
        '[[probe]]\nname = "speaker"',
        '[[stage]]\nname = "top"\ncontext = { target = "gru", input_size = 6, hidden_size = 4 }\n'
        '[[probe]]\nname = "speaker"',
    )
    file = tiny.write_pipeline(tmp_path, text)
    with pytest.raises(ConfigError, match="rows of a recurrent stage depend on everything before them"):
        stagewise.run(file, run=tmp_path / "run", set={"stage.context.store": {"write": False}})
    assert stagewise.run(file, run=tmp_path / "run")["state"] == "complete"


def test_names_that_are_not_there(finished):
    folder, _ = finished
    with pytest.raises(ConfigError, match=r"no stage 'three'; there are: one, two, context"):
        stagewise.run(folder / "tiny.toml", run=folder / "run", until="three")
    run = stagewise.open(folder / "run")
    with pytest.raises(ConfigError, match="has no stage 'three'"):
        run.encoder("three")
    with pytest.raises(ConfigError, match="is not a run"):
        stagewise.open(folder)
