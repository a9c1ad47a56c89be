"""Between training and encoding: weights that are final are not trained again, whatever becomes of their store."""

import json
import shutil

import pytest
import tiny
import tiny_images

import stagewise
from stagewise import stages
from stagewise import stages as stage_module
from stagewise.durable import write_sealed
from stagewise.errors import DiskError
from stagewise.pipeline import load_pipeline
from stagewise.runner import plan_pipeline
from stagewise.runs.folder import RunFolder
from stagewise.runs.records import TRAINED, read_trained

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("no_peaks")]

BOTH = pytest.mark.parametrize("kind", [tiny, tiny_images], ids=["audio", "images"])
SCHEDULES = pytest.mark.parametrize("schedule", ["iterative", "simultaneous"])


def failing(*arguments):
    raise DiskError("disk full at store.zarr: free some space.")


class Poison:
    """In the place of training: nothing may be trained any more."""

    def __init__(self, job, stop, report):
        raise AssertionError(job.says("is trained again", "are trained again"))


def fail_in_encoding(folder, kind, monkeypatch, sets=None, name="run"):
    """A run whose first store cannot be written; returns the bytes of the weights it leaves."""
    file = kind.write_pipeline(folder, kind.TOML.partition("[[probe]]")[0])
    with monkeypatch.context() as patch:
        patch.setattr(stage_module, "encode", failing)
        with pytest.raises(DiskError, match="disk full"):
            stagewise.run(file, run=folder / name, set=sets, until="one")
    assert not list(folder.glob(f"{name}/stages/*/stage.json"))
    return file, weights(folder / name)


def weights(run):
    return {path.parent.name: path.read_bytes() for path in run.glob("stages/*/encoder.safetensors")}


def plan(file, run, sets=None):
    return plan_pipeline(load_pipeline(file, sets or {}), RunFolder(run))


@BOTH
@SCHEDULES
def test_a_failure_in_encoding_keeps_the_weights(kind, schedule, tmp_path, monkeypatch):
    sets = {"pipeline.schedule": schedule, "defaults.store.write": True, "defaults.train.epochs": 1}
    file, kept = fail_in_encoding(tmp_path, kind, monkeypatch, sets)
    count = 1 if schedule == "iterative" else kind.TOML.count("[[stage]]")
    assert len(kept) == len(list(tmp_path.rglob(TRAINED))) == count
    planned = plan(file, tmp_path / "run", sets)
    assert [s.action for s in planned.stages[:count]] == ["encode"] * count
    assert planned.stages[0].reason == "trained, but its store is not finished"
    monkeypatch.setattr(stages, "Training", Poison)
    facts = stagewise.run(file, run=tmp_path / "run", set=sets, until="one")
    assert facts["stages"][0]["state"] == "complete"
    assert weights(tmp_path / "run") == kept
    assert len(list(tmp_path.rglob(TRAINED))) == count - 1
    if schedule == "simultaneous":
        stagewise.run(file, run=tmp_path / "run", set=sets)
        assert weights(tmp_path / "run") == kept
        assert not list(tmp_path.rglob(TRAINED))


def test_the_run_ends_as_if_nothing_had_failed(tmp_path, monkeypatch):
    file, _ = fail_in_encoding(tmp_path, tiny, monkeypatch, {"defaults.store.write": True})
    done = stagewise.run(file, run=tmp_path / "run", set={"defaults.store.write": True})
    calm = stagewise.run(file, run=tmp_path / "calm", set={"defaults.store.write": True})
    assert tiny.results(tmp_path / "run") == tiny.results(tmp_path / "calm")
    assert not list(tmp_path.rglob(TRAINED))
    for one, other in zip(done["stages"], calm["stages"], strict=True):
        for facts in (one, other):
            for clock in ("seconds", "data_wait_seconds"):
                facts["train"].pop(clock)
        assert one["train"] == other["train"]
        assert one["health"] == other["health"]


@pytest.mark.parametrize(
    "change",
    [{"defaults.store.dtype": "float16"}, {"defaults.store.write": False}, {"defaults.store.compress": "zstd"}],
)
def test_changed_store_settings_adopt_the_weights(tmp_path, monkeypatch, change):
    before = {"defaults.store.write": True, "defaults.store.dtype": "int8"}
    file, kept = fail_in_encoding(tmp_path, tiny, monkeypatch, before)
    ((folder, content),) = kept.items()
    sets = {**before, **change}
    planned = plan(file, tmp_path / "run", sets).stages[0]
    assert planned.action == "encode"
    assert planned.reason in ("only its store changed", "trained, but its store is not finished")
    monkeypatch.setattr(stages, "Training", Poison)
    facts = stagewise.run(file, run=tmp_path / "run", set=sets, until="one")["stages"][0]
    assert set(weights(tmp_path / "run").values()) == {content}
    assert (facts["folder"] == folder) == (
        facts["fingerprint"] == json.loads(content_of(tmp_path, folder))["fingerprint"]
    )
    assert facts["store"]["state"] == ("recomputed" if "defaults.store.write" in change else "written")
    assert facts["train"]["steps"] > 0


def content_of(tmp_path, folder):
    """What marks a folder's weights as trained, or its record."""
    path = tmp_path / "run" / "stages" / folder
    return (path / (TRAINED if (path / TRAINED).exists() else "stage.json")).read_text()


def test_changed_store_settings_adopt_in_sync_too(tmp_path, monkeypatch):
    """In sync, no stage is trained on a store: the stores' number format decides no weights."""
    sets = {"pipeline.schedule": "simultaneous", "defaults.store.write": True, "defaults.train.epochs": 1}
    file, kept = fail_in_encoding(tmp_path, tiny_images, monkeypatch, sets)
    monkeypatch.setattr(stages, "Training", Poison)
    stagewise.run(file, run=tmp_path / "run", set={**sets, "defaults.store.dtype": "float16"})
    assert set(weights(tmp_path / "run").values()) == set(kept.values())


def test_other_training_settings_do_not_adopt(tmp_path, monkeypatch):
    file, _ = fail_in_encoding(tmp_path, tiny, monkeypatch)
    monkeypatch.setattr(stages, "Training", Poison)
    with pytest.raises(AssertionError, match="stage one is trained again"):
        stagewise.run(file, run=tmp_path / "run", set={"pipeline.seed": 1})


def tear(path):
    path.write_bytes(path.read_bytes()[:-20])


def flip(path):
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)


DAMAGE = {
    "torn": lambda folder: tear(folder / TRAINED),
    "empty": lambda folder: (folder / TRAINED).write_bytes(b""),
    "a list": lambda folder: (folder / TRAINED).write_bytes(b"[]"),
    "no text": lambda folder: (folder / TRAINED).write_bytes(b"\xff\xfe\x00" * 30),
    "a digit": lambda folder: flip(folder / TRAINED),
    "sealed, without files": lambda folder: write_sealed(folder / TRAINED, {"format": 1}),
    "sealed, files of another kind": lambda folder: write_sealed(folder / TRAINED, {"files": ["encoder.safetensors"]}),
    "weights": lambda folder: flip(folder / "encoder.safetensors"),
    "no weights": lambda folder: (folder / "encoder.safetensors").unlink(),
    "metrics": lambda folder: flip(folder / "metrics.jsonl"),
    "nothing left": lambda folder: [path.unlink() for path in folder.rglob("*") if path.is_file()],
}


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A run that failed in encoding, and the results of one that did not."""
    folder = tmp_path_factory.mktemp("failed")
    with pytest.MonkeyPatch.context() as patch:
        file, _ = fail_in_encoding(folder, tiny, patch, {"stage.one.store.write": True})
    stagewise.run(file, run=folder / "calm", set={"stage.one.store.write": True}, until="one")
    return file, tiny.results(folder / "calm")


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_means_training_again(failed, tmp_path, damage):
    file, expected = failed
    shutil.copytree(file.parent / "run", tmp_path / "run")
    (folder,) = (tmp_path / "run" / "stages").iterdir()
    fingerprint = json.loads((folder / TRAINED).read_text())["fingerprint"]
    assert read_trained(folder, fingerprint) is not None
    assert read_trained(folder, "0" * 64) is None
    DAMAGE[damage](folder)
    assert read_trained(folder, fingerprint) is None
    sets = {"stage.one.store.write": True}
    assert plan(file, tmp_path / "run", sets).stages[0].action in ("train", "resume")
    stagewise.run(file, run=tmp_path / "run", set=sets, until="one")
    assert tiny.results(tmp_path / "run") == expected
    assert not list(tmp_path.rglob(TRAINED))
