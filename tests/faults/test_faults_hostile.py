"""Runs made to do harm: refused in words, nothing executed, nothing written or deleted outside the run."""

import hashlib
import json
import shutil

import mutations
import pytest
import tiny
import torch
from in_process import stagewise as say

import stagewise
from stagewise.errors import IntegrityError
from stagewise.runs.folder import RunFolder
from stagewise.runs.records import read_record, read_trained
from stagewise.training.checkpoint import read_tensors

pytestmark = pytest.mark.usefixtures("no_peaks")


@pytest.fixture
def run(finished, tmp_path, monkeypatch):
    shutil.copytree(finished / "run", tmp_path / "run")
    tiny.write_pipeline(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def one(run, pattern):
    (path,) = run.glob(pattern)
    return path


def tell(path, change):
    """Change a sealed file and seal it again."""
    content = json.loads(path.read_text())
    del content["own_sha256"]
    change(content)
    content["own_sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(content))


LOCK_LIES = {
    "a stage outside": lambda c: c["stages"][0].update(folder="../../precious"),
    "a stage at the root": lambda c: c["stages"][0].update(folder="/precious"),
    "a probe outside": lambda c: c["probes"][0].update(folder="../../precious"),
    "a probe on a stage that is not there": lambda c: c["probes"][0].update(stage="other"),
    "a probe of another pipeline": lambda c: c["probes"][0].update(name="other"),
    "no stages": lambda c: c.update(stages=[]),
    "stages of another pipeline": lambda c: c["stages"][0].update(name="other"),
    "stages that are none": lambda c: c.update(stages=3),
    "huge": lambda c: c["end_to_end"].update(peak=10**30),
    "negative": lambda c: c["stages"][1].update(rows=-5),
    "no pipeline": lambda c: c.pop("pipeline"),
    "another pipeline": lambda c: c["pipeline"].update(stage=[]),
    "another format": lambda c: c.update(format=2),
    "unknown policy": lambda c: c["stages"][0]["policy"].update(x=1),
    "text for a number": lambda c: c["stages"][0].update(peak="1"),
}


@pytest.mark.parametrize("change", LOCK_LIES.values(), ids=LOCK_LIES)
def test_a_lock_file_that_lies_under_its_seal(run, change):
    precious = run.parent / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine")
    path = run / "pipeline.lock.json"
    tell(path, change)
    for command in ("inspect", "verify", "report", "compare", "clean"):
        code, words = say(command, run, *(["--yes"] if command == "clean" else []))
        assert code == 3, command
        assert f"{path} is damaged" in words.replace("run/pip", f"{run}/pip") or str(path) in words
    code, words = say("stage", "1", "--run", run)
    assert code == 3
    code, words = say("run", "tiny.toml", "--run", run)
    assert code == 0, words
    assert "is written again" in words
    assert (precious / "file").read_text() == "mine"


RECORD_LIES = {
    "index": lambda c: c.update(index="1"),
    "name": lambda c: c.update(name="../x"),
    "seconds": lambda c: c["train"].update(seconds=1e300),
    "infinite": lambda c: c["train"].update(loss=float("inf")),
    "epochs": lambda c: c["train"].update(epochs=None),
    "memory": lambda c: c.pop("memory"),
    "bytes": lambda c: c["store"].update(bytes=10**25),
    "state": lambda c: c["store"].update(state="gone"),
    "warnings": lambda c: c["health"].update(warnings=[1]),
    "files outside": lambda c: c["files"].update({"../../x": "0" * 64}),
    "no weights": lambda c: c["files"].pop("encoder.safetensors"),
    "a store without its manifest": lambda c: c["files"].pop("store.manifest.json"),
    "identity": lambda c: c.update(identity=[]),
}


@pytest.mark.parametrize("change", RECORD_LIES.values(), ids=RECORD_LIES)
def test_a_record_that_lies_under_its_seal(run, change):
    path = one(run, "stages/2-two-*/stage.json")
    tell(path, change)
    with pytest.raises(IntegrityError, match=r"stage\.json is damaged \(.*\)\. Delete its folder"):
        read_record(path.parent)
    path.rename(path.with_name("trained.json"))
    wrong = {"index", "name", "bytes", "state", "a store without its manifest"}  # what training does not say
    here = next(name for name, other in RECORD_LIES.items() if other is change)
    assert (read_trained(path.parent) is None) == (here not in wrong)


PROBE_LIES = {
    "value": lambda c: c.update(value="much"),
    "interval": lambda c: c.update(interval=[0.0]),
    "items": lambda c: c.update(test_items=-1),
    "rows": lambda c: c.update(test_rows=0),
    "majority": lambda c: c.pop("majority"),
    "name": lambda c: c.update(name=3),
}


@pytest.mark.parametrize("change", PROBE_LIES.values(), ids=PROBE_LIES)
def test_a_probe_that_lies_under_its_seal(run, change):
    tell(one(run, "probes/phones-*/probe.json"), change)
    for command in ("inspect", "verify", "report", "compare"):
        code, words = say(command, run)
        assert code == 3, command
        assert "probe.json is damaged" in words


def test_data_facts_that_lie_under_their_seal(run):
    tell(run / "data.json", lambda c: c.update(skipped=[{"key": 3}]))
    code, words = say("inspect", run)
    assert code == 3
    assert "data.json is damaged" in words


class Payload:
    """Executed by whoever unpickles it."""

    def __reduce__(self):
        return open, ("ran", "w")


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("name", ["stages/1-one-*/encoder.safetensors", "probes/phones-*/probe.safetensors"])
def test_a_pickle_in_place_of_weights_is_not_executed(run, name, sealed):
    path = one(run, name)
    torch.save(Payload(), path)
    if sealed:
        mutations.make_right(run)
    with pytest.raises(IntegrityError, match=rf"{path.name} is (damaged|not what was written)"):
        stagewise.open(run).encoder("one") if "stages" in name else read_tensors(path)
    for line in (("verify", run), ("run", "tiny.toml", "--run", run, "--set", "stage.two.store.dtype=float16")):
        code, words = say(*line)
        assert code in ((0,) if sealed else (0, 3))
        assert path.name in words or sealed or line[0] == "run"  # which may have no need of it
    assert not (run.parent / "ran").exists()


def test_a_pickle_in_place_of_a_checkpoint_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(Payload(), tmp_path / "state.safetensors")
    with pytest.raises(IntegrityError, match=r"state.safetensors is damaged"):
        read_tensors(tmp_path / "state.safetensors")
    assert not (tmp_path / "ran").exists()


def test_a_header_that_asks_for_a_petabyte(tmp_path):
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(IntegrityError, match=r"x.safetensors is damaged"):
        read_tensors(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(shape=[10**15, 8]),
        lambda c: c.update(data_type="float64"),
        lambda c: c["chunk_key_encoding"].update(name="../../x"),
    ],
    ids=["huge", "dtype", "keys"],
)
def test_array_metadata_that_lies(run, change):
    path = one(run, "stages/2-two-*/store.zarr/z/zarr.json")
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    code, words = say("verify", run)
    assert code == 3
    assert "z/zarr.json is damaged" in words
    code, words = say("run", "tiny.toml", "--run", run, "--set", "stage.context.objective.negatives=5")
    assert code == 3
    assert "z/zarr.json is damaged" in words


@pytest.mark.parametrize(
    "name", ["stages", "stages/1-one-*", "stages/2-two-*/store.zarr", "probes/phones-*", "events.jsonl"]
)
def test_what_a_link_names_is_neither_written_nor_deleted(run, name):
    outside = run.parent / "outside"
    path = one(run, name)
    path.rename(outside)
    path.symlink_to(outside)
    before = {str(p): p.read_bytes() for p in [outside, *outside.rglob("*")] if p.is_file()}
    for line in (("run", "tiny.toml", "--run", run), ("run", "tiny.toml", "--run", run, "--fresh"),
                 ("stage", "1", "--run", run), ("probe", "--run", run), ("clean", run, "--yes")):  # fmt: skip
        code, words = say(*line)
        assert code in (0, 2, 3)
        assert (code == 0 and line[0] == "clean") or path.name in words
    assert {str(p): p.read_bytes() for p in [outside, *outside.rglob("*")] if p.is_file()} == before


def test_a_probe_whose_tensors_are_damaged_is_fitted_again(finished, run):
    path = one(run, "probes/phones-*/probe.safetensors")
    path.write_bytes(b"")
    code, words = say("run", "tiny.toml", "--run", run)
    assert code == 0
    assert "probe.safetensors" in words
    assert tiny.results(run) == tiny.results(finished / "run")
    assert RunFolder(run).locked is not None
