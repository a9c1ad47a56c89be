"""Commands say which run they use, and what a user would not want to find out later."""

import fcntl
import json
import os
import socket
import threading
import unicodedata
from pathlib import Path

import pytest
import tiny
from click.testing import CliRunner

import stagewise
from stagewise import durable
from stagewise.cli.main import main
from stagewise.cli.options import PLACE
from stagewise.errors import Interrupted
from stagewise.frozen import export as writing
from stagewise.runs.facts import run_facts
from stagewise.runs.folder import RunFolder
from stagewise.runs.verdict import ADVICE_ON, UNSURE, WORSE

pytestmark = pytest.mark.usefixtures("no_peaks")


def call(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with tiny.toml, a run of it, and one of random weights."""
    folder = tmp_path_factory.mktemp("which")
    file = tiny.write_pipeline(folder)
    stagewise.run(file, run=folder / "runs/tiny", set={"defaults.train.epochs": 1})
    stagewise.run(file, run=folder / "runs/random", set={"defaults.train.epochs": 0, "probe": []})
    return folder


def test_export_names_its_run_and_says_that_weights_are_random(home, monkeypatch):
    monkeypatch.chdir(home)
    done = call("export", "runs/tiny", "--out", "trained")
    assert (done.exit_code, "stage context of runs/tiny" in done.stderr) == (0, True)
    assert "weights are random" not in done.stderr + (home / "trained/README.md").read_text()
    done = call("export", "runs/random", "--stage", "two", "--out", "untrained")
    assert "stage two of runs/random" in done.stderr
    assert "warning: one, two were trained for no epoch: their weights are random." in done.stderr
    assert "**one, two: trained for no epoch, the weights are random.**" in (home / "untrained/README.md").read_text()


def test_a_run_that_is_mistyped_is_no_input(home, monkeypatch, tmp_path):
    monkeypatch.chdir(home)
    (home / "x.wav").touch()
    for words in (["runs/tinny", "x.wav"], ["x.wav", "runs/tinny"]):
        done = call("embed", *words, "--skip", "--out", tmp_path / "x.npz")
        assert done.exit_code == 2
        assert done.stderr.strip() == 'stagewise: runs/tinny is not there (did you mean "runs/tiny"?).'
    done = call("inspect", "tiny")
    assert done.exit_code == 2
    assert 'tiny is not a run (it has no pipeline.lock.json) (did you mean "runs/tiny"?): type' in done.stderr


def test_a_stage_has_a_name_and_a_number(home, monkeypatch, tmp_path):
    monkeypatch.chdir(home)
    monkeypatch.setattr(writing, "write_program", lambda *_: "model.pt2 is left out: not asked for.")
    done = call("export", "runs/tiny", "--stage", "2", "--out", tmp_path / "two")
    assert (done.exit_code, "stage two of runs/tiny" in done.stderr) == (0, True)
    done = call("export", "runs/tiny", "--stage", "9", "--out", tmp_path / "nine")
    assert done.stderr == "stagewise: runs/tiny has no stage '9'; it has one, two, context.\n"


@pytest.mark.parametrize(
    ("stage", "words"),
    [("one", "one was trained for no epoch"), ("context", "one, two, context were trained for no epoch")],
)
@pytest.mark.parametrize("verb", ["embed", "export"])
def test_random_weights_are_used_only_where_their_run_is_named(home, monkeypatch, tmp_path, verb, stage, words):
    monkeypatch.chdir(home)
    monkeypatch.setattr(writing, "write_program", lambda *_: "model.pt2 is left out: not asked for.")
    (home / "runs/last").write_text("runs/random\n")
    (home / "x.wav").touch()
    inputs, out = (["x.wav"] if verb == "embed" else []), tmp_path / "x.npz"
    done = call(verb, *inputs, "--stage", stage, "--out", out)
    assert done.exit_code == 2
    assert f"the last run made here, runs/random, has random weights ({words}): name" in done.stderr
    assert f"`stagewise {verb} runs/random …`" in done.stderr
    named = call(verb, "runs/random", *inputs, "--stage", stage, "--out", out)
    assert f"warning: {words}: {'its' if stage == 'one' else 'their'} weights are random." in named.stderr
    (home / "runs/last").write_text("runs/tiny\n")
    assert "random weights" not in call(verb, *inputs, "--stage", stage, "--out", tmp_path / "y.npz").stderr


def test_a_run_says_what_it_is(home):
    assert repr(stagewise.open(home / "runs/tiny")).endswith("/runs/tiny: finished one, two, context>")


def test_inspect_says_who_is_writing_now(home, monkeypatch):
    monkeypatch.chdir(home)
    with RunFolder(home / "runs/tiny").writing():
        holder = (home / "runs/tiny/run.holder.json").read_bytes()
        facts = json.loads(call("inspect", "runs/tiny", "--json").stdout)["in_use"]
        assert (facts["pid"], facts["host"]) == (os.getpid(), socket.gethostname())
        said = f"runs/tiny: complete, in use by pid {os.getpid()} on host {facts['host']} since {facts['since']}\n"
        assert said in call("inspect", "runs/tiny").stdout
        (home / "runs/tiny/run.holder.json").write_bytes(b"{")
        assert "complete, in use by another process\n" in call("inspect", "runs/tiny").stdout
    (home / "runs/tiny/run.holder.json").write_bytes(holder)  # as a process that is killed leaves it
    assert json.loads(call("inspect", "runs/tiny", "--json").stdout)["in_use"] is None
    assert "in use" not in call("inspect", "runs/tiny").stdout


def test_who_asks_for_the_writer_keeps_none_from_writing(home):
    with (home / "runs/tiny/run.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)  # as `inspect` does for a moment
        timer = threading.Timer(0.05, fcntl.flock, (lock, fcntl.LOCK_UN))
        timer.start()
        with RunFolder(home / "runs/tiny").writing():
            pass
        timer.join()


def test_fresh_says_what_it_deletes(home, monkeypatch):
    monkeypatch.chdir(home)
    made = ("run", "tiny.toml", "--run", "runs/fresh", "--set", "defaults.train.epochs=0", "--set", "probe=[]")
    assert "deleting" not in call(*made, "--fresh", "--until", "two").stderr
    for path in (home / "runs/fresh/stages").glob("*/stage.json"):
        record = durable.read_sealed(path, "")
        record["train"]["seconds"] = 100.0
        durable.write_sealed(path, record)
    lost = "2 finished stages (one, two): 3 min 20 s of training"
    planned = call(*made, "--fresh", "--dry-run", "--json")
    assert f"--fresh deletes all that runs/fresh holds: {lost}." in json.loads(planned.stdout)["warnings"]
    assert f"deleting {lost}\n" in call(*made, "--fresh").stderr


def test_what_could_be_taken_in_place_of_an_unfinished_stage(home, monkeypatch, tmp_path):
    """None that needs it, and none whose name begins as its own does."""
    text = tiny.TOML.replace('"two"', '"one-up"').replace('stages = ["context"]', 'stages = "all"')
    file, run = tiny.write_pipeline(tmp_path, text), tmp_path / "run"
    stagewise.run(file, run=run, set={"defaults.train.epochs": 0, "probe": []})
    next(run.glob("stages/1-one-????????/stage.json")).unlink()
    done = call("embed", run, home / "tiny.toml", "--out", tmp_path / "x.npz")
    assert "stage one of " in done.stderr
    assert "Finished" not in done.stderr
    assert "older" not in done.stderr


def test_clean_says_when_it_deletes_the_only_finished_stage(home, monkeypatch):
    monkeypatch.chdir(home)
    assert call("run", "tiny.toml", "--set", "defaults.train.epochs=3", "--until", "one").exit_code == 0
    done = call("clean", "runs/tiny")  # nothing is typed: nothing is deleted
    assert "is the only finished two: with the settings of today it is not finished yet." in done.stderr
    assert "is the only finished context" in done.stderr
    assert "is the only finished one:" not in done.stderr
    done = call("embed", "runs/tiny", "x.wav", "--out", "x.npz")
    assert (
        "stage two of runs/tiny is not finished: type the command that made it again, with its --set, or" in done.stderr
    )
    assert "Finished, and taken with --stage: one. The run holds an older two, which `run` with" in done.stderr
    assert "runs/random" in done.stderr
    assert "runs/tiny," not in done.stderr.partition("Other runs")[2]


def test_plan_refuses_what_run_would(home, monkeypatch):
    monkeypatch.chdir(home)
    done = call("plan", "tiny.toml", "--set", 'probe.speaker.labels="speakr"')
    assert (done.exit_code, "this data set has no label 'speakr'" in done.stderr) == (1, True)


def test_probe_without_probes(home, monkeypatch):
    monkeypatch.chdir(home)
    done = call("probe", "--run", "runs/random")
    assert (done.exit_code, "runs/random has no probes: write a [[probe]]" in done.stderr) == (2, True)


def test_a_folder_of_data_is_looked_for_from_here(home, monkeypatch):
    monkeypatch.chdir(home)
    done = call("plan", "tiny.toml", "--set", "data.target=audio-folder", "--set", "data.root=nowhere")
    assert (
        f"cannot read nowhere (No such file or directory; paths start where you type, in {home}): correct data.root"
        in done.stderr
    )


@pytest.mark.parametrize(("words", "meant"), [(["probe"], "probe"), (["stage"], "stage N")])
def test_a_run_where_a_part_of_it_is_wanted(home, monkeypatch, words, meant):
    monkeypatch.chdir(home)
    done = call(*words, "runs/tiny")
    assert (done.exit_code, f"runs/tiny is a run: type `stagewise {meant} --run runs/tiny`" in done.stderr) == (2, True)
    done = call("inspect", "runs")
    assert (done.exit_code, "runs is not a run, but holds some: name one of them, such as" in done.stderr) == (2, True)


@pytest.mark.parametrize("verb", ["embed", "export"])
def test_what_is_worse_than_random_weights_is_not_used_without_a_word(home, monkeypatch, tmp_path, verb):
    monkeypatch.chdir(home)
    facts = run_facts(RunFolder(home / "runs/tiny"))
    facts["probes"] = [
        {"name": "speaker", "stage": "context", "words": WORSE},
        {"name": "speaker", "stage": "two", "words": WORSE},
        {"name": "phones", "stage": "context", "words": UNSURE},
    ]
    monkeypatch.setattr("stagewise.frozen.open.run_facts", lambda _: facts)
    words = ["x.wav"] if verb == "embed" else []
    lines = call(verb, "runs/tiny", *words, "--out", tmp_path / "x.npz").stderr.splitlines()
    assert [line for line in lines if line.startswith("warning: probe")] == [
        f"warning: probe speaker on context is {WORSE}: {ADVICE_ON[WORSE]}."
    ]


def test_the_topmost_stage_is_meant_where_none_is_named(home):
    run = stagewise.open(home / "runs/random")
    assert run.encoder().name == run.encoder("context").name == "context"


def test_what_is_interrupted_says_the_whole_command(home, monkeypatch):
    def stop(*_, **__):
        raise Interrupted("stopped by SIGINT: it is saved. Type the same command again to go on.", 2)

    monkeypatch.chdir(home)
    monkeypatch.setattr("stagewise.runner.make", stop)
    words = ["stagewise", "run", "tiny.toml", "--run", "a b"]
    monkeypatch.setattr("sys.argv", words)
    done = call(*words[1:])
    assert (done.exit_code, "  stagewise run tiny.toml --run 'a b'\n" in done.stderr) == (130, True)


@pytest.mark.parametrize(
    ("typed", "again"),
    [
        (["run", "tiny.toml", "--fresh"], "stagewise run tiny.toml\n"),
        (["stage", "two", "--run", "runs/tiny"], "stagewise stage two --run runs/tiny --resume\n"),
        (["stage", "two", "--run", "runs/tiny", "--resume"], "stagewise stage two --run runs/tiny --resume\n"),
    ],
)
def test_what_is_interrupted_goes_on_by_the_command_that_is_said(home, monkeypatch, typed, again):
    """Typed again as it was, --fresh, or a stage without --resume, would delete what is kept."""

    def stop(*_, **__):
        raise Interrupted("stopped by SIGINT: it is saved. Type the same command again to go on.", 2)

    monkeypatch.chdir(home)
    monkeypatch.setattr("stagewise.runner.make", stop)
    monkeypatch.setattr("sys.argv", ["stagewise", *typed])
    done = call(*typed)
    assert done.stderr.endswith(again)
    assert ("Type this to go on" in done.stderr) == ("--resume" not in typed)


def test_clean_where_nobody_answers(home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "runs/random/stages/9-old-00000000").mkdir()
    done = call("clean", "runs/random")
    assert (done.exit_code, "nothing was deleted: type --yes to delete them." in done.stderr) == (2, True)
    assert (home / "runs/random/stages/9-old-00000000").exists()
    done = CliRunner().invoke(main, ["clean", "runs/random"], input="y\n")
    assert (done.exit_code, "runs/random: deleted 1 folder, 0 B." in done.stdout) == (0, True)
    assert not (home / "runs/random/stages/9-old-00000000").exists()


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_path_is_found_however_its_umlauts_are_written(tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    there, typed = (unicodedata.normalize(how, "V\u00f6gel") for how in (form, {"NFC": "NFD", "NFD": "NFC"}[form]))
    (tmp_path / there).mkdir()
    (tmp_path / there / "x.wav").touch()
    assert PLACE.convert(f"{typed}/x.wav", None, None) == Path(there, "x.wav")
    assert PLACE.convert(f"./{typed}/new.npz", None, None) == Path(there, "new.npz")
    assert PLACE.convert(str(tmp_path / typed), None, None) == tmp_path / there
    assert PLACE.convert("\u00e4/b.wav", None, None) == Path("\u00e4/b.wav")
    (tmp_path / typed).mkdir()
    assert PLACE.convert(typed, None, None) == Path(typed)
