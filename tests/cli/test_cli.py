"""The command line as a user meets it; in a process of its own where that could be another matter."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner
from small_files import png, wav

from stagewise.cli.main import KEYS, main
from stagewise.pipeline import load_pipeline

REPO = Path(__file__).parents[2]


def stagewise(*arguments, cwd, check=None, env=None):
    path = os.pathsep.join([str(REPO / "tests"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "stagewise", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=240, env={**os.environ, "PYTHONPATH": path, **(env or {})},
    )  # fmt: skip
    assert "Traceback" not in done.stderr + done.stdout
    if check is not None:
        assert done.returncode == check, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    tiny.write_pipeline(folder)
    shutil.copytree(finished / "run", folder / "runs" / "tiny")
    (folder / "runs" / "last").write_text("runs/tiny\n")
    return folder


@pytest.fixture
def call(folder, monkeypatch):
    """Carry out a command in that folder and in this process."""
    monkeypatch.chdir(folder)

    def invoke(*words, code=0):
        done = CliRunner().invoke(main, [str(word) for word in words])
        assert done.exit_code == code, done.output
        assert "Traceback" not in done.output
        return done

    return invoke


def test_help_is_fast_and_never_imports_torch(tmp_path):
    code = """if True:
        import sys
        from stagewise.cli.main import main
        try:
            main(["--help"])
        except SystemExit:
            print([name for name in ("torch", "numpy", "pydantic", "importlib.metadata") if name in sys.modules])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_needs_no_torch_imports_none(folder, tmp_path):
    """It takes seconds; headers, samples, pixels, records and bytes of stores are looked at without it."""
    shutil.copytree(folder / "runs" / "tiny", tmp_path / "tiny")
    for name in ("talks/one.wav", "talks/two.wav"):
        wav(tmp_path / name, 30)
    png(tmp_path / "photos" / "one.png", 64, 64)
    code = """if True:
        import sys
        from stagewise.cli.main import main
        for line in sys.argv[1:]:
            try:
                main(line.split())
            except SystemExit as end:
                print(line, end.code, "torch" in sys.modules, file=sys.stderr)
    """
    lines = ["data list", "data check talks", "data check photos", "schema", "completion bash"]
    lines += [f"{verb} tiny" for verb in ("inspect", "verify", "report", "compare", "clean --yes")]
    lines += [f"{verb} --help" for verb in main.commands]
    done = subprocess.run(
        [sys.executable, "-c", code, *lines], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert [line for line in done.stderr.splitlines() if line.endswith(("True", "False"))] == [
        f"{line} 0 False" for line in lines
    ]


def test_run_says_what_it_did_on_stderr_and_shows_a_table_on_stdout(folder):
    done = stagewise("run", "tiny.toml", cwd=folder, check=0)
    assert "runs/tiny: complete" in done.stdout
    assert "context" in done.stdout
    assert "phones" in done.stdout
    *planning, nothing, last = done.stderr.splitlines()
    assert nothing == "nothing to do: all of it is there already."
    assert planning in ([], ["planning …"])
    assert last == "next: `stagewise inspect runs/tiny` · `stagewise report runs/tiny`"  # its class reads no files
    assert "\x1b" not in done.stdout


def test_json_of_every_reading_command(call):
    facts = json.loads(call("inspect", "--json").stdout)
    assert facts["state"] == "complete"
    planned = json.loads(call("plan", "tiny.toml", "--json").stdout)
    assert [s["action"] for s in planned["stages"]] == ["cached"] * 3
    assert planned["disk_free_bytes"] > 0
    assert planned["end_to_end"]["predicted_peak_bytes"] > 0
    assert all(s["memory"]["predicted_peak_bytes"] > 0 for s in planned["stages"])
    assert planned["data"]["unit"] == "samples"
    dry = json.loads(call("run", "tiny.toml", "--dry-run", "--json").stdout)
    assert dry["stages"] == planned["stages"]
    assert "torch" in json.loads(call("doctor", "--json").stdout)
    assert "properties" in json.loads(call("schema").stdout)


def test_plan_and_inspect_as_tables(call, monkeypatch):
    done = call("plan", "tiny.toml", "--set", "stage.two.objective.negatives=5")
    planned = " ".join(done.stdout.split())
    assert "objective.negatives: 4 → 5" in planned
    assert "warning: finished stages are trained again: two, context (objective.negatives: 4 → 5)." in planned
    assert done.stderr.endswith("next: `stagewise run tiny.toml --set stage.two.objective.negatives=5`\n")
    kept = call("plan", "tiny.toml", "--set", "stage.one.store.write=false").stdout.splitlines()
    assert re.search(r" recomputed +\(.* KiB\) +\(.* KiB\)", next(line for line in kept if "1 one" in line))
    monkeypatch.setenv("COLUMNS", "80")
    table = call("inspect").stdout
    assert max(map(len, table.splitlines())) <= 80
    assert "…" not in table


def test_verify_and_its_exit_code(call, folder, tmp_path):
    assert re.fullmatch(r"runs/tiny: \d+ files are what was written\.\n", call("verify").stdout)
    shutil.copytree(folder / "runs" / "tiny", tmp_path / "copy")
    victim = next((tmp_path / "copy").glob("stages/1-*/encoder.safetensors"))
    victim.write_bytes(victim.read_bytes()[:-1] + b"\x01")
    done = stagewise("verify", "copy", cwd=tmp_path, check=3)
    assert str(victim.name) in done.stderr
    assert "copy: not what was written: 1 of" in done.stderr


def test_usage_and_configuration_errors_exit_with_2(call, tmp_path, monkeypatch):
    bad = call("run", "tiny.toml", "--set", "stage.two.train.epoch=3", code=2).stderr
    assert "did you mean" in bad
    hostile = call("run", "tiny.toml", "--set", 'stage.one.encoder.target="os:system"', code=2)
    assert "os:system" in hostile.stderr
    assert "there is no stage 'four'" in call("stage", "four", code=2).stderr
    assert "there is no stage 'four'" in call("run", "tiny.toml", "--until", "four", "--dry-run", code=2).stderr
    refused = call("run", "tiny.toml", "--dry-run", "--tensorboard", "curves", code=2).stderr
    assert "--dry-run makes nothing that --tensorboard could show" in refused
    assert "leave --json out" in call("probe", "speaker", "--predictions", "x.csv", "--json", code=2).stderr
    for verb in ("plan", "run"):
        assert "lies below, a file" in call(verb, "tiny.toml", "--run", "tiny.toml/x", code=2).stderr
    assert "is not there: name the folder" in call("data", "check", "nowhere", code=2).stderr
    monkeypatch.chdir(tmp_path)
    assert "No such command 'inspct'" in call("inspct", code=2).stderr
    assert "no such file" in stagewise("run", "missing.toml", cwd=tmp_path, check=2).stderr
    assert "no run was made below this folder yet" in call("inspect", code=2).stderr


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (["inspect", "--run", "x", "y"], "the run is named twice: leave --run out."),
        (["embed", "--run", "x", "y.wav"], "RUN is given without an option: `stagewise embed RUN`."),
        (["compare", "--run=x"], "RUN is given without an option: `stagewise compare RUN`."),
        (["run", "tiny.toml", "--epochs", "3"], "`--set defaults.train.epochs=30`."),
        (["plan", "tiny.toml", "--batch_size=3"], "`--set defaults.train.batch_size=8`."),
        (["run", "tiny.toml", "--out", "x"], "Where a run is written is said by `--run DIR`."),
    ],
)
def test_options_of_other_commands_and_programs_lead_to_ours(call, typed, hint):
    done = call(*typed, code=2).stderr
    assert done.endswith(f" {hint}\n")
    assert "Did you mean" not in done


@pytest.mark.parametrize("key", KEYS.values())
def test_keys_that_are_hinted_at_are_keys(finished, key):
    load_pipeline(finished / "tiny.toml", (key.replace("data.root=FOLDER", "data.seed=1"),))


@pytest.mark.slow
def test_stage_by_number_and_until_and_fresh(tmp_path):
    tiny.write_pipeline(tmp_path)
    stagewise("run", "tiny.toml", "--until", "one", cwd=tmp_path, check=0)
    facts = json.loads(stagewise("inspect", "--json", cwd=tmp_path, check=0).stdout)
    assert (facts["state"], [s["state"] for s in facts["stages"]]) == (
        "partial",
        ["complete", "empty", "empty"],
    )
    wrong = stagewise("stage", "3", "--resume", cwd=tmp_path, check=2)
    assert "type `stagewise stage two`" in wrong.stderr
    stagewise("stage", "2", "--resume", cwd=tmp_path, check=0)
    stagewise("stage", "context", cwd=tmp_path, check=0)
    stagewise("probe", "speaker", cwd=tmp_path, check=0)
    facts = json.loads(stagewise("inspect", "--json", cwd=tmp_path, check=0).stdout)
    assert facts["state"] == "complete"
    before = tiny.results(tmp_path / "runs" / "tiny")
    done = stagewise("run", "tiny.toml", "--fresh", cwd=tmp_path, check=0)
    assert "one › train (not trained yet)" in done.stderr
    assert tiny.results(tmp_path / "runs" / "tiny") == before


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_checkpoints_and_the_run_goes_on(tmp_path, number, code):
    tiny.write_pipeline(tmp_path)
    env = {**os.environ, "PYTHONPATH": str(REPO / "tests")}
    command = [
        sys.executable,
        "-m",
        "stagewise",
        "run",
        "tiny.toml",
        "--set",
        "defaults.train.epochs=4000",
        "--set",
        "defaults.train.patience=4000",
    ]
    child = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=env)
    assert child.stderr is not None
    for line in child.stderr:
        if "epoch 0" in line:
            break
    time.sleep(0.3)
    child.send_signal(number)
    _, error = child.communicate(timeout=120)
    assert child.returncode == code, error
    assert "stage one is saved" in error
    assert "Traceback" not in error
    state = next(tmp_path.glob("runs/tiny/stages/1-one-*/checkpoint/*/state.json"))
    assert json.loads(state.read_bytes())["progress"]["steps"] > 0
    assert "interrupted" in stagewise("plan", *command[4:], cwd=tmp_path, check=0).stdout


def test_closed_stdout_is_no_error(folder):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPO), str(REPO / "tests")])}
    done = subprocess.run(
        f"{sys.executable} -m stagewise schema | head -1",
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
        env=env,
    )
    assert done.stdout.strip() == "{"
    assert done.stderr == ""


def test_a_read_only_run_is_said_before_training(folder, tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    (tmp_path / "run").mkdir(mode=0o555)
    tiny.write_pipeline(tmp_path)
    assert "cannot write" in stagewise("run", "tiny.toml", "--run", "run", cwd=tmp_path, check=1).stderr
