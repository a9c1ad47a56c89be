"""The mean row of every item: computed in one pass for all probes and stages, kept, and never computed again."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
from click.testing import CliRunner
from small_data import speakers

import stagewise
from stagewise.cli.main import main
from stagewise.encoding.shared_pass import Rung
from stagewise.errors import Interrupted
from stagewise.probing import rows, run
from stagewise.runner import run_pipeline
from stagewise.runs.clean import unused
from stagewise.runs.folder import RunFolder
from stagewise.runs.items import ItemMeans, means_problem
from stagewise.verify import verify_run

pytestmark = pytest.mark.usefixtures("no_peaks")

SECOND = '[[probe]]\nname = "again"\nstages = "all"\nlabels = "speaker"\npool = "mean"\nepochs = 1\n'
TOML = tiny.TOML.replace('pool = "mean"\n', 'pool = "mean"\nrandom = true\n').split('[[probe]]\nname = "phones"')[0]


@pytest.fixture
def taken(monkeypatch):
    """The items that were read, and from which ladder."""
    seen = []
    take = rows._Walk.take
    monkeypatch.setattr(rows._Walk, "take", lambda walk, item: (seen.append(item), take(walk, item)))
    return seen


def go(folder: Path, text: str = TOML, report=lambda *_, **__: None, **sets):
    return run_pipeline(tiny.write_pipeline(folder, text), run=folder / "run", set=sets, report=report)


def test_they_are_the_means_of_what_the_stores_hold(tmp_path):
    go(tmp_path)
    stages = stagewise.open(tmp_path / "run").stages
    for name in ("two", "context"):
        (folder,) = tmp_path.glob(f"run/probes/means-{name}-????????")
        facts = json.loads((folder / "means.json").read_text())
        means = ItemMeans(folder, facts["fingerprint"], facts["weights"])
        for item in range(12):
            expected = stages[name].store[item].mean(0, dtype=np.float64)
            np.testing.assert_allclose(means.read(np.array([item]))[0], expected, rtol=1e-5, atol=1e-7)


def test_deviations_stand_beside_the_means_and_are_kept_apart_from_them(tmp_path, computed):
    both = SECOND.replace('pool = "mean"', 'pool = "mean+std"')
    go(tmp_path, TOML.replace("random = true\n", "") + both)
    assert len(computed) == 3 * 12  # one pass for both
    stages = stagewise.open(tmp_path / "run").stages
    folders = list(tmp_path.glob("run/probes/means-two-????????"))
    assert len(folders) == 2
    for folder in folders:
        facts = json.loads((folder / "means.json").read_text())
        vectors_NC = ItemMeans(folder, facts["fingerprint"], facts["weights"]).read(np.arange(12))
        for item, vector_C in enumerate(vectors_NC):
            rows_nC = np.array(stages["two"].store[item], np.float64)
            expected = [rows_nC.mean(0), rows_nC.std(0)][: len(vector_C) // rows_nC.shape[1]]
            np.testing.assert_allclose(vector_C, np.concatenate(expected), rtol=1e-5, atol=1e-6)
    probe = stagewise.open(tmp_path / "run").probe("again", "two")
    assert probe.result["pool"] == "mean+std"


def test_one_pass_serves_all_stages_and_probes_and_is_kept(tmp_path, taken):
    told = []
    tell = lambda kind, **facts: told.append(facts) if kind == "probe" else None  # noqa: E731
    go(tmp_path, TOML + SECOND, tell)
    walks = len(taken) // 12
    # Of the trained stages one walk for each store that is read, of all random ones one.
    assert sorted(taken) == sorted(list(range(12)) * walks)
    assert walks == 1 + len(list(tmp_path.glob("run/stages/*/store.zarr")))
    assert told[-1] == {"probe": "speaker, again", "stage": "3 stages", "random": False, "items": 12, "of": 12}
    folders = sorted(path.name for path in tmp_path.glob("run/probes/means-*"))
    assert [name[:-9] for name in folders] == [
        f"means-{stage}{random}" for stage in ("context", "one", "two") for random in ("", "-random")
    ]
    taken.clear()
    go(tmp_path, TOML + SECOND.replace('"again"', '"third"'))
    runner = CliRunner()
    assert runner.invoke(main, ["probe", "--run", str(tmp_path / "run")]).exit_code == 0
    assert taken == []  # a new probe, and all of them again
    assert unused(RunFolder(tmp_path / "run")).keys() == set(tmp_path.glob("run/probes/again-*"))


@pytest.fixture
def computed(monkeypatch):
    """Items whose rows were computed, or read from a store, once for each stage."""
    seen = []
    heard = Rung._heard
    monkeypatch.setattr(Rung, "_heard", lambda rung, item: seen.append(item) or heard(rung, item))
    return seen


EVERY = ["one", "two", "context"]
SETS = {"probe.speaker.random": True, "probe.phones.random": True, "probe.phones.stages": EVERY}


def test_each_stage_is_computed_once_for_all_probes(tmp_path, computed, monkeypatch):
    monkeypatch.setattr(rows, "SAVE_SECONDS", 0.0)
    go(tmp_path, tiny.TOML, **SETS, **{"defaults.store.dtype": "float32"})
    # Three trained and three random rungs an item, for means and for labelled rows; float32 is not calibrated.
    assert len(computed) == 6 * 12


@pytest.mark.parametrize("free", [0, 1 << 40])
def test_what_has_no_room_in_memory_or_on_the_disk_is_read_with_the_same_result(tmp_path, computed, monkeypatch, free):
    sets = SETS | {"defaults.store.dtype": "float32"}
    go(tmp_path, tiny.TOML, **sets)
    fitted = tiny.results(tmp_path / "run")
    for folder in tmp_path.glob("run/probes/*"):
        shutil.rmtree(folder)
    computed.clear()
    monkeypatch.setattr(rows, "MEMORY_BYTES", 0)
    monkeypatch.setattr(run, "MEMORY_BYTES", 0)
    monkeypatch.setattr(run.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert CliRunner().invoke(main, ["probe", "--run", str(tmp_path / "run")]).exit_code == 0
    assert tiny.results(tmp_path / "run") == fitted
    # Without room on the disk, the two higher random stages are computed again for their rows, with what is below them.
    assert len(computed) == (6 * 12 if free else (6 + 2 + 3) * 12)


def test_what_was_pooled_before_a_signal_is_kept(tmp_path, taken):
    def stop(kind, **facts):
        if kind == "probe" and facts["items"] == 5:
            raise Interrupted("stopped", 15)

    with pytest.raises(Interrupted):
        go(tmp_path, report=stop)
    assert max(taken) == 4
    taken.clear()
    go(tmp_path)
    assert min(taken) == 5
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    go(fresh)
    for path in fresh.glob("run/probes/*/*.*"):
        assert path.read_bytes() == (tmp_path / path.relative_to(fresh)).read_bytes()


@pytest.mark.parametrize("harm", ["tensors", "facts", "missing", "folder"])
def test_damaged_means_are_named_and_computed_again(tmp_path, taken, harm):
    go(tmp_path, **{"probe.speaker.stages": ["two"], "probe.speaker.random": False})
    (folder,) = tmp_path.glob("run/probes/means-two-*")
    path = folder / ("means.json" if harm == "facts" else "means.safetensors")
    content = path.read_bytes()
    path.unlink()
    if harm == "folder":
        path.mkdir()
    elif harm != "missing":
        path.write_bytes(content[:-20] + b"1" + content[-19:])
    problem = means_problem(folder)
    assert str(folder) in problem
    assert problem.endswith("Delete its folder and type `stagewise probe` to compute it again.")
    assert verify_run(RunFolder(tmp_path / "run"), lambda *_, **__: None)[0] == [problem]
    if harm == "folder":
        path.rmdir()
    taken.clear()
    assert CliRunner().invoke(main, ["probe", "--run", str(tmp_path / "run")]).exit_code == 0
    assert taken == list(range(12))
    assert (path.read_bytes(), means_problem(folder)) == (content, "")


def test_items_without_a_label_or_a_split_are_not_read(tmp_path, taken, monkeypatch):
    init = tiny.TinySpeech.__init__

    def some(self, **arguments):
        init(self, **arguments)
        self.labels = {**self.labels, "speaker": speakers([0, 0, 1, 1, -1, 0, 0, 1, 1, -1, 0, 1])}

    monkeypatch.setattr(tiny.TinySpeech, "__init__", some)
    monkeypatch.setattr(tiny.TinySpeech, "split", lambda _, name: np.arange(5) + 5 * (name == "test"))
    go(tmp_path, **{"probe.speaker.stages": ["two"], "probe.speaker.random": False})
    assert taken == [0, 1, 2, 3, 5, 6, 7, 8]
