"""What is damaged is named, with what to type; it is never trained on."""

import json
import multiprocessing
import os
import shutil

import pytest
import tiny

import stagewise
from stagewise import durable
from stagewise.cli.main import main
from stagewise.errors import IntegrityError, StagewiseError
from stagewise.runner import make, quiet
from stagewise.runs.clean import delete, unused
from stagewise.runs.folder import RunFolder
from stagewise.verify import verify_run

pytestmark = pytest.mark.usefixtures("no_peaks")


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished / "run", tmp_path / "run")
    return RunFolder(tmp_path / "run")


def one(run, pattern):
    (path,) = run.path.glob(pattern)
    return path


def flip(path, at=-9):
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize(
    "pattern",
    [
        "data.json",
        "items.csv",
        "stages/1-one-*/encoder.safetensors",
        "stages/2-two-*/metrics.jsonl",
        "stages/2-two-*/store.manifest.json",
        "stages/2-two-*/store.zarr/z/c/0/0",
        "stages/2-two-*/store.zarr/offsets/c/0",
        "probes/phones-*/probe.safetensors",
    ],
)
def test_verify_names_every_damaged_file(run, pattern):
    assert verify_run(run, quiet)[0] == []
    path = one(run, pattern)
    flip(path)
    problems, _ = verify_run(run, quiet)
    assert len(problems) == 1
    assert path.name in problems[0] or str(path) in problems[0]
    assert "stagewise" in problems[0] or "Delete" in problems[0]


@pytest.mark.parametrize(
    "pattern",
    [
        "data.json",
        "items.csv",
        "stages/1-one-*/stage.json",
        "stages/1-one-*/encoder.safetensors",
        "stages/2-two-*/store.manifest.json",
        "stages/2-two-*/store.zarr/z/c/0/0",
        "probes/phones-*/probe.json",
        "probes/phones-*/probe.safetensors",
    ],
)
@pytest.mark.timeout(60)
def test_a_pipe_or_a_device_in_place_of_a_file_is_named(run, pattern):
    path = one(run, pattern)
    for put in (lambda: os.mkfifo(path), lambda: path.symlink_to("/dev/zero")):
        path.unlink()
        put()
        problems, _ = verify_run(run, quiet)
        assert len(problems) == 1
        assert path.name in problems[0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"format": 1}',
        b"\x00" * 50,
        b'{"format": 1, "files": {"../x": "y"}, "store": {"state": "written"}}',
    ],
)
def test_a_damaged_record_is_an_integrity_error(finished, run, content):
    path = one(run, "stages/2-two-*/stage.json")
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"stage.json is damaged.*Delete its folder"):
        stagewise.run(finished / "tiny.toml", run=run.path)


def test_keys_that_a_run_was_made_without_have_their_defaults(run, capsys):
    path = run.path / "pipeline.lock.json"
    content = durable.read_sealed(path, "")
    del content["pipeline"]["probe"][0]["data"], content["pipeline"]["pipeline"]["seed"]
    durable.write_sealed(path, content)
    for verb in ("inspect", "compare", "report", "verify"):
        with pytest.raises(SystemExit) as ended:
            main([verb, str(run.path)])
        assert ended.value.code == 0, capsys.readouterr().err


def test_damaged_weights_stop_a_run_before_it_trains(finished, run):
    flip(one(run, "stages/1-one-*/encoder.safetensors"))
    with pytest.raises(IntegrityError, match=r"encoder.safetensors is not what was written"):
        stagewise.run(finished / "tiny.toml", run=run.path, set={"stage.two.objective.negatives": 5})


def test_training_never_consumes_a_damaged_store(finished, run):
    flip(one(run, "stages/2-two-*/store.zarr/z/c/0/0"), at=40)
    with pytest.raises(IntegrityError, match=r"Type `stagewise stage two` to encode it again"):
        stagewise.run(finished / "tiny.toml", run=run.path, set={"stage.context.objective.negatives": 5})


@pytest.mark.parametrize("name", ["store.zarr/z/c/0/0", "store.manifest.json", "store.zarr/zarr.json"])
def test_a_damaged_store_is_encoded_again(run, name):
    before = tiny.results(run.path)
    flip(one(run, f"stages/2-two-*/{name}"), at=40)
    from stagewise.pipeline import from_json

    make(from_json(run.locked["pipeline"]), run, quiet, only="two", restart=True)
    assert tiny.results(run.path) == before
    assert verify_run(run, quiet)[0] == []


def test_a_damaged_lock_file_is_named(run):
    (run.path / "pipeline.lock.json").write_text("{")
    with pytest.raises(IntegrityError, match="pipeline.lock.json is damaged"):
        stagewise.open(run.path)


@pytest.mark.slow
def test_a_checkpoint_that_is_torn_is_discarded(finished, tmp_path):
    """Both slots are torn in turn after an interruption; the run ends with the same bytes."""
    from stagewise.errors import Interrupted
    from stagewise.pipeline import load_pipeline

    pipeline, run = load_pipeline(finished / "tiny.toml"), RunFolder(tmp_path / "run")

    def stop_at_first_epoch(kind, **facts):
        if kind == "epoch" and facts["epoch"] == 1:
            os.kill(os.getpid(), 15)

    for slot in ("a", "b"):
        with pytest.raises(Interrupted):
            make(pipeline, run, stop_at_first_epoch)
        torn = one(run, f"stages/*/checkpoint/{slot}/state.safetensors")
        torn.write_bytes(torn.read_bytes()[:-7])
        notes = []
        try:
            make(pipeline, run, lambda kind, notes=notes, **facts: notes.append(facts.get("text", "")), until="one")
        finally:
            assert any("is discarded" in note and "not what was written" in note for note in notes)
        shutil.rmtree(run.path) if slot == "a" else None
    make(pipeline, run, quiet)
    assert tiny.results(run.path) == tiny.results(finished / "run")


def _hold(path, started, done):
    with RunFolder(path).writing():
        started.set()
        done.wait(30)


def test_two_writers(finished, run):
    context = multiprocessing.get_context("spawn")
    started, done = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(run.path, started, done))
    holder.start()
    assert started.wait(30)
    with pytest.raises(StagewiseError, match=rf"is in use by pid {holder.pid} on host .* since \d\d:\d\d"):
        stagewise.run(finished / "tiny.toml", run=run.path)
    assert stagewise.open(run.path).facts["state"] == "complete"
    holder.kill()
    holder.join()
    assert stagewise.run(finished / "tiny.toml", run=run.path)["state"] == "complete"


def test_clean_deletes_what_is_no_longer_used(finished, run):
    stagewise.run(finished / "tiny.toml", run=run.path, set={"stage.context.objective.negatives": 5})
    found = unused(run)
    assert {p.name.rsplit("-", 1)[0] for p in found} == {
        "3-context",
        "speaker-context",
        "phones-context",
        "means-context",
    }
    assert all(size > 0 for size in found.values())
    delete(run, list(found))
    assert unused(run) == {}
    assert verify_run(run, quiet)[0] == []


def test_run_directory_holds_no_pickle_and_no_leftovers(run):
    names = {p.suffix for p in run.path.rglob("*") if p.is_file()}
    assert names <= {".json", ".jsonl", ".csv", ".safetensors", ".lock", ""}
    assert not [p for p in run.path.rglob("*") if ".partial" in p.name or ".trash" in p.name]
    for path in run.path.rglob("*.json"):
        json.loads(path.read_bytes())


def test_a_lock_whose_pipeline_is_refused_is_told_in_one_line(run):
    path = run.path / "pipeline.lock.json"
    content = {key: value for key, value in json.loads(path.read_bytes()).items() if key != "own_sha256"}
    content["pipeline"]["pipeline"]["seed"] = "x"
    durable.write_sealed(path, content)
    with pytest.raises(IntegrityError) as raised:
        _ = run.locked
    assert "\n" not in str(raised.value)
    assert "pipeline.seed" in str(raised.value)
