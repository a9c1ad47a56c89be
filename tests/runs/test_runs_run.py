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

pytestmark = pytest.mark.usefixtures("no_peaks")


def plan(folder, **sets):
    from stagewise.pipeline import load_pipeline

    sets = {key.replace("__", "."): value for key, value in sets.items()}
    return plan_pipeline(load_pipeline(folder / "tiny.toml", sets), RunFolder(folder / "run"))


def actions(folder, **sets):
    return [stage.action for stage in plan(folder, **sets).stages]


def test_facts_have_the_contracts_shape(finished):
    facts = stagewise.open(finished / "run").facts
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
    run = stagewise.open(finished / "run")
    stage = run.stages["two"]
    group = zarr.open_group(finished / "run" / "stages" / stage.folder.name / "store.zarr", mode="r")
    offsets = group["offsets"][:]
    z = group["z"][offsets[3] : offsets[4]] * group["scale"][:] + group["offset"][:]
    np.testing.assert_array_equal(z.astype(np.float32), stage.store[3])
    assert run.facts["stages"][1]["store"]["rows"] == offsets[-1]


def test_another_run_gives_the_same_bytes_and_a_second_changes_nothing(finished, tmp_path):
    run = tmp_path / "again"
    facts = stagewise.run(finished / "tiny.toml", run=run)
    assert tiny.results(run) == tiny.results(finished / "run")
    before = {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in (run / "stages").rglob("*")}
    assert stagewise.run(finished / "tiny.toml", run=run) == facts
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in (run / "stages").rglob("*")}
    assert actions(finished) == ["cached"] * 3


def test_a_moved_run_still_works(finished, tmp_path):
    import shutil

    shutil.copytree(finished / "run", tmp_path / "moved")
    moved = stagewise.open(tmp_path / "moved")
    assert moved.facts["stages"] == stagewise.open(finished / "run").facts["stages"]
    assert str(finished) not in "".join(p.read_text() for p in (tmp_path / "moved").rglob("*.json"))


def test_encoder_gives_the_rows_of_the_store(finished, tmp_path):
    import torch

    sets = {"defaults.store.dtype": "float32", "stage.context.store.write": True}
    stagewise.run(finished / "tiny.toml", run=tmp_path / "exact", set=sets)
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
    old = tiny.results(finished / "run")
    planned = plan(finished, stage__two__objective__negatives=5)
    assert [s.action for s in planned.stages] == ["cached", "train", "train"]
    assert "objective.negatives: 4 → 5" in planned.stages[1].reason
    assert planned.stages[2].reason == "the stage below changed"
    planned = plan(finished, pipeline__seed=1)
    assert [s.action for s in planned.stages] == ["train"] * 3
    assert planned.stages[0].reason == "seed: 0 → 1"
    planned = plan(finished, data__seed=7)
    assert planned.stages[0].reason == "the data changed"
    assert tiny.results(finished / "run") == old


def test_a_change_of_the_store_alone_does_not_train_its_stage(finished):
    assert actions(finished, stage__two__store__dtype="float16") == ["cached", "encode", "train"]
    other = plan(finished, stage__two__store__compress="zstd").stages
    assert [stage.action for stage in other] == ["cached"] * 3
    assert other[1].reason == "nothing changed; its store stays as it was written, compress = none"
    assert actions(finished, defaults__train__checkpoint="1 s") == ["cached"] * 3


def test_adopted_weights_are_the_old_ones(finished, tmp_path):
    import shutil

    shutil.copytree(finished / "run", tmp_path / "run")
    stagewise.run(finished / "tiny.toml", run=tmp_path / "run", set={"stage.two.store.dtype": "float16"})
    weights = {p.parent.name: p.read_bytes() for p in (tmp_path / "run" / "stages").glob("2-two-*/encoder.safetensors")}
    assert len(weights) == 2
    assert len(set(weights.values())) == 1


def test_nan_stops_the_stage_and_freezes_nothing(tmp_path):
    tiny.Poisoned.calls = 0
    file = tiny.write_pipeline(
        tmp_path,
        tiny.TOML.replace('target = "conv1d", in_channels = 8', 'target = "tiny:Poisoned", in_channels = 8'),
    )
    with pytest.raises(NumberError, match=r"stage two, epoch \d, step \d: the loss is nan \(items item-"):
        stagewise.run(file, run=tmp_path / "run", set={"defaults.train.epochs": 6})  # however often a forecast calls it
    assert not list((tmp_path / "run" / "stages").glob("2-two-*/stage.json"))
    assert not list((tmp_path / "run" / "stages").glob("2-two-*/encoder.safetensors"))


def test_windows_that_fit_nowhere_are_an_error(tmp_path):
    file = tiny.write_pipeline(tmp_path)
    with pytest.raises(StagewiseError, match="no training item is long enough for a window of 900 rows"):
        stagewise.run(file, run=tmp_path / "run", set={"stage.one.objective.window": 900})


def test_interrupted_at_any_step_ends_with_the_same_bytes(finished, tmp_path):
    """Ask to stop at the n-th report, for a spread of n, and go on."""
    from stagewise.pipeline import load_pipeline

    pipeline = load_pipeline(finished / "tiny.toml")
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
    assert tiny.results(tmp_path / "run") == tiny.results(finished / "run")


def test_what_a_stage_that_begins_anew_deletes_is_said(finished, tmp_path):
    from stagewise.pipeline import load_pipeline

    pipeline, run, told = load_pipeline(finished / "tiny.toml"), RunFolder(tmp_path / "run"), []

    def stop(kind, **facts):
        if kind == "epoch" and facts["epoch"] == 1:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        make(pipeline, run, stop)
    make(pipeline, run, lambda kind, **facts: told.append(facts.get("text")), only="one", restart=True)
    assert "stage one: deleting 1 epoch of an interrupted training." in told


@pytest.mark.parametrize("compress", ["none", "zstd"])
def test_a_store_that_has_to_be_written_and_does_not_fit_is_compressed_as_asked(tmp_path, compress):
    sets = {"stage.two.store.write": True, "stage.two.store.compress": compress, "pipeline.disk_limit": "1 KiB"}
    tiny.write_pipeline(tmp_path)
    stage = plan(tmp_path, **{key.replace(".", "__"): value for key, value in sets.items()}).stages[1]
    assert (stage.policy.write, stage.policy.compress) == (True, compress)
    assert "though " in stage.policy.why
    assert "do not fit into the" in stage.policy.why


def test_verify_says_which_stage_it_did_not_read(finished, tmp_path):
    from stagewise.verify import verify_run

    told = []
    stagewise.run(finished / "tiny.toml", run=tmp_path / "run", until="one")
    assert verify_run(RunFolder(tmp_path / "run"), lambda kind, **facts: told.append(facts.get("text")))[0] == []
    assert [text for text in told if text] == [
        f"stage {name} is not finished: what there is of it was not read." for name in ("two", "context")
    ]


def test_fewer_windows_than_a_batch_asks_for_are_said(finished, tmp_path):
    told = []
    stagewise.run(
        finished / "tiny.toml",
        run=tmp_path / "run",
        set={"defaults.train.batch_size": 64},
        until="one",
        report=lambda kind, **facts: told.append(str(facts.get("text"))),
    )
    words = "as there are no more; train.batch_size asks for more."
    assert sum(text.startswith("stage one: batches hold ") and text.endswith(words) for text in told) == 1


def test_probe_on_its_own_data_and_bad_probes(tmp_path):
    text = tiny.TOML.replace('labels = "phones"', 'labels = "phones"\ndata = { target = "tiny:TinySpeech", seed = 9 }')
    file = tiny.write_pipeline(tmp_path, text)
    facts = stagewise.run(file, run=tmp_path / "run")
    assert facts["probes"][-1]["name"] == "phones"
    with pytest.raises(StagewiseError, match="no label 'emotion'"):
        stagewise.run(file, run=tmp_path / "run", set={"probe.speaker.labels": "emotion"})
    with pytest.raises(ConfigError, match='one class per item: set pool = "mean"'):
        stagewise.run(file, run=tmp_path / "run", set={"probe.phones.labels": "speaker"})


def test_names_that_are_not_there(finished):
    with pytest.raises(ConfigError, match=r"no stage 'three'; there are: one, two, context"):
        stagewise.run(finished / "tiny.toml", run=finished / "run", until="three")
    run = stagewise.open(finished / "run")
    with pytest.raises(ConfigError, match="has no stage 'three'"):
        run.encoder("three")
    with pytest.raises(ConfigError, match="is not a run"):
        stagewise.open(finished)
