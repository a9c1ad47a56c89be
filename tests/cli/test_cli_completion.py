"""What the tab key gives, through click's own classes and through real shells."""

import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from click.shell_completion import get_completion_class
from click.testing import CliRunner

from stagewise.cli.main import main

REPO = Path(__file__).parents[2]


@pytest.fixture
def here(finished, tmp_path, monkeypatch):
    """A folder with a finished run, a run in a folder of runs, what is no run, and pipeline files."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/tiny", "runs/sweep/first"):
        Path(name).mkdir(parents=True)
        shutil.copy(finished / "run/pipeline.lock.json", name)
    Path("runs/last").write_text("runs/tiny\n")
    Path("runs/nothing").mkdir()
    Path("pipelines").mkdir()
    text = tiny.TOML.replace('"tiny:TinySpeech"', '"tiny:TinySpeech"\nitems = 3').replace('"one"', '"first"')
    tiny.write_pipeline(Path("pipelines"), text)
    tiny.write_pipeline(Path("pipelines")).rename("pipelines/other.toml")
    tiny.write_pipeline(Path("pipelines"), text)
    return tmp_path


def tab(*words):
    """What the shell is told to offer for the last word."""
    *before, incomplete = words
    complete = get_completion_class("bash")(main, {}, "stagewise", "_STAGEWISE_COMPLETE")
    items = complete.get_completions(before, incomplete)
    return [item.value for item in items if item.type == "plain"]


RUNS = ["runs/sweep/first", "runs/tiny"]
FILES = ["pipelines/other.toml", "pipelines/tiny.toml"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        *[([verb, ""], RUNS) for verb in ("inspect", "report", "compare", "verify", "clean", "embed", "export")],
        (["inspect", "runs/t"], ["runs/tiny"]),
        (["inspect", "./runs/"], ["./runs/tiny"]),
        (["inspect", "runs/sweep/"], ["runs/sweep/first"]),
        (["inspect", "elsewhere/"], []),
        (["report", "runs/tiny", "runs/s"], ["runs/sweep/first"]),
        (["embed", "runs/tiny", ""], []),
        (["stage", "--run", ""], RUNS),
        (["plan", ""], FILES),
        (["run", "pipelines/o"], ["pipelines/other.toml"]),
        (["stage", ""], ["context", "one", "two"]),
        (["stage", "--run", "runs/sweep/first", "t"], ["two"]),
        (["embed", "runs/tiny", "--stage", ""], ["context", "one", "two"]),
        (["export", "--stage", "c"], ["context"]),
        (["run", "pipelines/tiny.toml", "--run", "runs/tiny", "--until", ""], ["context", "first", "two"]),
        (["run", "pipelines/tiny.toml", "--until=f"], ["first"]),
        (["probe", ""], ["phones", "speaker"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
    ],
)
def test_runs_files_stages_and_probes(here, words, offered):
    assert tab(*words) == offered


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", ["data.", "defaults.", "format=", "pipeline.", "probe.", "stage."]),
        ("data.", ["data.items=", "data.target=", "data.validation="]),
        ("defaults.train.ep", ["defaults.train.epochs="]),
        ("defaults.train.optimizer.", ["defaults.train.optimizer.lr=", "defaults.train.optimizer.target="]),
        ("stage.", ["stage.context.", "stage.first.", "stage.two."]),
        ("stage.first.enc", ["stage.first.encoder."]),
        ("stage.first.encoder.k", ["stage.first.encoder.kernel_size="]),
        ("stage.2.objective.", [f"stage.2.objective.{key}=" for key in ("negatives", "steps", "target", "window")]),
        ("stage.none.", []),
        ("pipeline.memory_limit=1", []),
        ("probe.phones.po", ["probe.phones.pool="]),
        ("'", []),
    ],
)
def test_keys_part_by_part(here, typed, offered):
    assert tab("run", "pipelines/tiny.toml", "--set", "a=1", "--set", typed) == offered
    assert tab("plan", "pipelines/tiny.toml", f"--set={typed}") == offered


def test_whatever_is_there_it_never_fails(here):
    lock = Path("runs/tiny/pipeline.lock.json")
    lock.write_text(lock.read_text().replace("one", "six"))
    assert tab("stage", "") == []
    Path("runs/last").unlink()
    assert tab("stage", "") == []
    for text in (b"\xff", b"[", b"stage = 3", b"stage = [3]", b"[[stage]]\nname = 3", b'[[stage]]\nname = "a\\nb"'):
        Path("bad.toml").write_bytes(text)
        assert tab("run", "bad.toml", "--until", "") == []
        assert all(key.isprintable() for key in tab("run", "bad.toml", "--set", "stage."))
    Path("empty.toml").write_text("")
    assert tab("run", "empty.toml", "--set", "stage.") == tab("run", "empty.toml", "--set", "probe.") == []
    gone = here / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    assert tab("inspect", "") == tab("run", "") == tab("stage", "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_every_shell(shell):
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0
    assert f"_STAGEWISE_COMPLETE={shell}_complete" in done.stdout


BASH = """\
compopt() { options="$options $2"; }
eval "$(stagewise completion bash)"
COMP_WORDS=(stagewise "$@"); COMP_CWORD=$#
_stagewise_completion stagewise
echo "${COMPREPLY[*]}|$options"
"""


@pytest.fixture
def shell_environment(here):
    """The environment of a shell in which `stagewise` is a command."""
    (here / "bin").mkdir()
    program = here / "bin/stagewise"
    program.write_text(f"#!{sys.executable}\nfrom stagewise.cli.main import main\nmain()\n")
    program.chmod(0o755)
    path = f"{here / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(REPO), "HOME": str(here), "ZDOTDIR": str(here)}


needs_bash, needs_fish, needs_zsh = (
    pytest.mark.skipif(shutil.which(shell) is None, reason=f"there is no {shell} here")
    for shell in ("bash", "fish", "zsh")
)


@needs_bash
@pytest.mark.parametrize(
    ("words", "reply"),
    [
        (["insp"], "inspect|"),
        (["inspect", ""], "runs/sweep/first runs/tiny| dirnames"),
        (["run", "pipelines/tiny.toml", "--until", ""], "context first two|"),
        (["run", "pipelines/tiny.toml", "--set", "data.it"], "data.items=| nospace"),
        (["run", "pipelines/tiny.toml", "--set", "data.items", "=", "3", "--set", "da"], "data.| nospace"),
    ],
)
def test_a_real_bash(shell_environment, words, reply):
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH, "bash", *words], capture_output=True, text=True, env=shell_environment
    )
    assert done.stderr == ""
    assert done.stdout == f"{reply}\n"


# What is typed, what fish offers, and what zsh makes of the line; it says with a space whether the word is done.
TYPED = [
    ("insp", ["inspect"], "inspect "),
    ("run --unt", ["--until"], "run --until "),
    ("plan pipelines/o", ["pipelines/other.toml"], "plan pipelines/other.toml "),
    ("plan ", FILES, "plan pipelines/"),
    ("inspect ", RUNS, "inspect runs/"),
    ("inspect pip", ["pipelines/"], "inspect pipelines/"),
    ("inspect runs/t", ["runs/tiny"], "inspect runs/tiny "),
    ("stage --run runs/t", ["runs/tiny"], "stage --run runs/tiny "),
    ("embed runs/tiny note", ["notes.wav"], "embed runs/tiny notes.wav "),
    ("stage tw", ["two"], "stage two "),
    ("probe ", ["phones", "speaker"], "probe "),
    ("run pipelines/tiny.toml --until=fi", ["--until=first"], "run pipelines/tiny.toml --until=first "),
    ("plan pipelines/tiny.toml --set data.it", ["data.items="], "plan pipelines/tiny.toml --set data.items="),
    ("plan pipelines/tiny.toml --set=stage.f", ["--set=stage.first."], "plan pipelines/tiny.toml --set=stage.first."),
    ("plan pipelines/tiny.toml --set data.nothing", [], "plan pipelines/tiny.toml --set data.nothing"),
]


@needs_fish
def test_a_real_fish(here, shell_environment):
    (here / "notes.wav").touch()
    script = "stagewise completion fish | source; for line in $argv; echo :; complete -C $line; end"
    lines = [f"stagewise {typed}" for typed, _, _ in TYPED]
    done = subprocess.run(
        ["fish", "--no-config", "-c", script, *lines], capture_output=True, text=True, env=shell_environment
    )
    assert done.stderr == ""
    found = [[line.split("\t")[0] for line in each.splitlines()[1:]] for each in f"\n{done.stdout}".split("\n:")[1:]]
    assert dict(zip(lines, found, strict=True)) == {f"stagewise {typed}": offered for typed, offered, _ in TYPED}


@needs_zsh
def test_a_real_zsh(here, shell_environment):
    """Typed on a terminal, in a shell whose own completion was never set up: what the tab key makes of each line."""
    (here / "notes.wav").touch()
    (here / ".zshrc").write_text(
        """PS1=; eval "$(stagewise completion zsh)"
        show() { print -rn -- "<<$BUFFER>>"; BUFFER= }; zle -N show; bindkey '^G' show; print -rn -- '<<ready>>'
        """
    )
    terminal, inside = pty.openpty()
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), inside)
    shell = subprocess.Popen(["zsh", "-i"], **streams, env=shell_environment | {"TERM": "dumb"}, start_new_session=True)
    os.close(inside)

    def shown():
        screen = b""
        while b">>" not in screen:
            screen += os.read(terminal, 2**16)
        return re.search("<<(.*)>>", screen.decode(), re.DOTALL)[1]

    try:
        found = {"": shown()}
        for typed, _, _ in TYPED:
            os.write(terminal, f"stagewise {typed}\t\a".encode())
            found[typed] = shown().removeprefix("stagewise ")
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)
    assert found == {"": "ready"} | {typed: line for typed, _, line in TYPED}


def test_nothing_heavy_is_imported(here):
    code = """if True:
        import sys
        from stagewise.cli.main import main
        try:
            main()
        finally:
            print([name for name in ("torch", "numpy") if name in sys.modules])
    """
    words = ["stagewise", "run", "pipelines/tiny.toml", "--set", "stage."]
    environment = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": "4", "_STAGEWISE_COMPLETE": "bash_complete"}
    done = subprocess.run(
        [sys.executable, "-c", code.replace("main()", "main(prog_name='stagewise')")],
        capture_output=True, text=True, env={**os.environ, **environment, "PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["plain,stage.context.", "plain,stage.first.", "plain,stage.two.", "[]"]
