"""Curves for TensorBoard, read back with its own reader; nothing of the run changes."""

import json
import subprocess
import sys

import pytest
import tiny
from click.testing import CliRunner

import stagewise
from stagewise.cli import tensorboard
from stagewise.cli.main import main
from stagewise.cli.make import run as run_command
from stagewise.cli.make import stage as stage_command
from stagewise.cli.tensorboard import with_curves
from stagewise.errors import ConfigError
from stagewise.runner import quiet

STAGES = ["one", "two", "context"]


def curves(folder):
    """Points (step, value) of every curve in one folder."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    return {tag: [(e.step, e.value) for e in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def call(command, *arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_a_run_with_curves_is_the_run_without(finished, tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tensorboard, "SECONDS", 0.0)
    tiny.write_pipeline(tmp_path)
    assert call(run_command, "tiny.toml", "--run", "with", "--tensorboard", "deep/curves").exit_code == 0
    assert tiny.results(tmp_path / "with") == tiny.results(finished / "run")
    facts = stagewise.open("with").facts
    assert sorted(p.name for p in (tmp_path / "deep/curves").iterdir()) == sorted(
        [*STAGES, "probe-phones", "probe-speaker"]
    )
    for stage in facts["stages"]:
        found, train = curves(tmp_path / "deep/curves" / stage["name"]), stage["train"]
        a_epoch = train["steps"] // 2
        assert [step for step, _ in found["validation_loss"]] == [0, a_epoch, 2 * a_epoch]
        assert found["validation_loss"][0][1] == pytest.approx(train["initial_loss"])
        assert min(value for _, value in found["validation_loss"]) == pytest.approx(train["chosen_loss"])
        assert [step for step, _ in found["loss"]] == list(range(1, train["steps"] + 1))
        assert found["loss"][-1][1] == pytest.approx(train["loss"])
        assert max(value for _, value in found["peak_bytes"]) == stage["memory"]["measured_peak_bytes"]
        assert all(value > 0 for _, value in found["rows_per_second"])
    wanted = [(n, pytest.approx(p["value"])) for n, p in enumerate(facts["probes"][:3], 1)]
    assert curves(tmp_path / "deep/curves/probe-speaker") == {"accuracy": wanted}
    assert [step for step, _ in curves(tmp_path / "deep/curves/probe-phones")["accuracy"]] == [3]


def test_stages_in_sync_have_one_pace_and_one_peak(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tensorboard, "SECONDS", 0.0)
    tiny.write_pipeline(tmp_path, tiny.TOML.replace('"tiny"\n', '"tiny"\nschedule = "simultaneous"\n', 1))
    assert call(run_command, "tiny.toml", "--tensorboard", "curves").exit_code == 0
    stages = stagewise.open("runs/tiny").facts["stages"]
    steps = stages[0]["train"]["steps"]
    assert len({json.dumps(stage["memory"]) for stage in stages}) == 1  # one step, one peak
    pace = curves(tmp_path / "curves" / "one to context")
    assert pace.keys() == {"rows_per_second", "peak_bytes"}
    assert [step for step, _ in pace["rows_per_second"]] == list(range(1, steps + 1))
    for name in STAGES:
        found = curves(tmp_path / "curves" / name)
        assert "validation_loss" in found
        assert not found.keys() & pace.keys()


def test_a_resumed_stage_goes_on_and_has_no_point_twice(tmp_path):
    pytest.importorskip("tensorboard")
    step = {"stage": "two", "epochs": 9, "steps": 3, "rows": 8, "peak_bytes": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensorboard, "SECONDS", 0.0)
        for first, last, loss in ((1, 5, 1.0), (3, 8, 2.0)):  # steps 3 to 5 came after the last checkpoint
            with with_curves(quiet, tmp_path, STAGES) as report:
                for number in range(first, last + 1):
                    epoch, place = divmod(number - 1, 3)
                    report("step", **step, epoch=epoch + 1, step=place + 1, loss=loss)
                    if place == 2:
                        report("epoch", stage="two", epoch=epoch + 1, epochs=9, steps=number, loss=loss, seconds=1.0)
    assert curves(tmp_path / "two")["loss"] == [(1, 1.0), (2, 1.0), *((n, 2.0) for n in range(3, 9))]


def test_one_stage_has_curves_too(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    stagewise.run(tiny.write_pipeline(tmp_path), run="run", until="one")
    assert call(stage_command, "two", "--run", "run", "--tensorboard", "curves").exit_code == 0
    assert [path.name for path in (tmp_path / "curves").iterdir()] == ["two"]


def test_a_place_that_fails_is_said_once_and_ends_nothing():
    def fails(name, step):
        raise OSError(28, "No space left on device")

    heard = []
    report = tensorboard._Curves(fails, STAGES, "", lambda kind, **facts: heard.append(facts.get("text", kind)))
    for epoch in (1, 2):
        report("epoch", stage="one", epoch=epoch, epochs=2, steps=epoch, loss=1.0)
    assert heard == ["epoch", "TensorBoard gets no more points: No space left on device.", "epoch"]


def test_a_disk_that_gets_full_is_said_and_no_thread_dies(tmp_path):
    pytest.importorskip("tensorboard")
    code = """if True:
        import resource
        from pathlib import Path
        from stagewise.cli.tensorboard import with_curves
        heard = []
        with with_curves(lambda kind, **facts: heard.append(facts.get("text")), Path("curves"), ["one"]) as report:
            for epoch in range(1, 100):
                if epoch == 9:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
                report("epoch", stage="one", epoch=epoch, epochs=100, steps=epoch, loss=1.0)
        print([text for text in heard if text])
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "['TensorBoard gets no more points: File too large.']\n"
    assert len(curves(tmp_path / "curves/one")["loss"]) >= 9


def test_a_file_is_no_folder_for_curves(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(ConfigError, match="--tensorboard .*file is no folder to write to .*: name another"),
        with_curves(quiet, tmp_path / "file", STAGES),
    ):
        pass


def test_without_the_extra_nothing_is_trained(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.write_pipeline(tmp_path)
    for name in [name for name in sys.modules if name.startswith("tensorboard.") or name.endswith(".event_file")]:
        monkeypatch.delitem(sys.modules, name)  # what was imported before would be found there
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    done = CliRunner().invoke(main, ["run", "tiny.toml", "--tensorboard", "curves"])
    assert done.exit_code == 2
    assert done.stderr == "stagewise: --tensorboard needs an extra: type `pip install 'stagewise[tensorboard]'`.\n"
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]
