"""init, and the verbs about data, as a user meets them."""

import json
import os
import shutil

import pytest
from click.testing import CliRunner
from small_files import png, wav
from test_cli import stagewise

from stagewise.cli.data import data
from stagewise.cli.start import init
from stagewise.datasets import SHORT_NAMES, librispeech
from stagewise.errors import ConfigError, DataError, DiskFull
from stagewise.starting import built_in


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def call(command, *arguments):
    """Run a command in this process: quicker, and errors come as they are."""
    return CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=True)


def test_init_writes_a_file_prints_its_plan_and_the_file_runs(here):
    for voice in ("ann", "bob"):
        for number in range(4):
            wav(here / "my birds" / voice / f"{number}.wav", 0.4)
    done = stagewise("init", "my birds", cwd=here, check=0)
    assert "my-birds.toml is written" in done.stdout
    assert "plan for runs/my-birds" in done.stdout
    assert sorted(path.name for path in here.iterdir()) == ["my birds", "my-birds.toml"]
    again = stagewise("init", "my birds", cwd=here, check=2)
    assert "my-birds.toml is there already" in again.stderr
    assert "--force" in again.stderr
    ran = stagewise("run", "my-birds.toml", "--set", "defaults.train.epochs=1", "--json", cwd=here, check=0)
    facts = json.loads(ran.stdout)
    assert facts["state"] == "complete"
    assert {probe["labels"] for probe in facts["probes"]} == {"class"}


def test_init_says_which_kind_it_took_and_how_to_choose(here):
    for number in range(3):
        png(here / "in" / f"{number}.png", 40, 40)
    for number in range(2):
        wav(here / "in" / f"{number}.wav", 0.4)
    done = call(init, "in")
    assert done.exit_code == 0, done.output
    assert "2 audio files and 3 images: took images; type --kind audio" in done.output
    assert 'target = "image-folder"' in (here / "in.toml").read_text()
    done = call(init, "in", "--kind", "audio", "--out", "deep/sound.toml")
    assert done.exit_code == 0, done.output
    assert 'name = "sound"' in (here / "deep" / "sound.toml").read_text()


def test_init_never_overwrites_and_leaves_nothing_behind_when_it_fails(here):
    (here / "in").mkdir()
    (here / "in.toml").write_text("mine")
    assert isinstance(call(init, "in").exception, ConfigError)
    assert (here / "in.toml").read_text() == "mine"
    assert isinstance(call(init, "in", "--force").exception, DataError)
    assert (here / "in.toml").read_text() == "mine"
    assert isinstance(call(init, "in", "--out", "in.toml/x.toml").exception, ConfigError)
    assert isinstance(call(init, "in", "--out", "in").exception, ConfigError)
    wav(here / "in" / "a.wav", 0.4)
    assert "holds no images" in str(call(init, "in", "--kind", "images", "--force").exception)
    assert call(init, "in", "--force").exit_code == 0
    assert (here / "in.toml").read_text() != "mine"


def test_check_counts_and_names_what_is_bad(here):
    wav(here / "in" / "a.wav", 2.0, 44_100, 2)
    wav(here / "in" / "b.wav", 1.0)
    png(here / "in" / "c.png", 30, 20)
    done = call(data, "check", "in")
    assert done.exit_code == 0, done.output
    for words in ("2 audio files", "3.0 s in all", "44,100 (1 files)", "16,000 (1 files)", "1 images", "30 × 20"):
        assert words in done.output
    (here / "in" / "bad.flac").write_bytes(b"fLaC but no more")
    done = call(data, "check", "in", "--kind", "audio", "--json")
    assert isinstance(done.exception, DataError)
    (found,) = json.loads(done.output)["found"]
    assert (found["files"], found["usable"], found["seconds"]) == (3, 2, 3.0)
    assert found["rates"] == {"16000": 1, "44100": 1}
    assert found["bad"][0]["file"] == "in/bad.flac"
    assert call(data, "check", "in", "--kind", "images").exit_code == 0
    assert stagewise("data", "check", "in", cwd=here, check=1).stderr.startswith("stagewise: 1 of 4 files cannot")


def test_list_names_every_built_in_data_set(here):
    words = call(data, "list").output
    sets = json.loads(call(data, "list", "--json").output)["data"]
    assert [each["name"] for each in sets] == list(SHORT_NAMES)
    assert all(f"{name}: " in words for name in SHORT_NAMES)
    sizes = sets[0]["sizes"]
    assert set(sizes) == set(librispeech.SUBSETS)
    assert sizes["train-clean-100"]["seconds"] == pytest.approx(100.59 * 3600)
    assert "train-clean-100: 28,539 items, 4 d 4 h" in words


def test_fetch_downloads_through_the_data_set_and_only_once(here, monkeypatch):
    calls = []

    def download(root, url, download):
        calls.append(url)
        for number in range(2):
            wav(here / "data" / "LibriSpeech" / url / "1" / "2" / f"1-2-000{number}.flac", 0.1)

    monkeypatch.setattr("torchaudio.datasets.LIBRISPEECH", download)
    monkeypatch.setitem(librispeech.SUBSETS, "dev-clean", (2, 0.1, 1))
    for _ in range(2):
        done = call(data, "fetch", "librispeech", "--subset", "dev-clean")
        assert done.exit_code == 0, done.output
        assert "2 items are there" in done.output
        assert 'data.root = "data"' in done.output
    assert calls == ["dev-clean"]


def test_fetch_refuses_what_cannot_be(here, monkeypatch):
    assert "type one of train-clean-100" in str(call(data, "fetch", "librispeech", "--subset", "x").exception)
    assert "leave --subset out" in str(call(data, "fetch", "stl10", "--subset", "x").exception)
    monkeypatch.setattr(built_in.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1))
    done = call(data, "fetch", "stl10", "--root", here / "not" / "there")
    assert isinstance(done.exception, DiskFull)
    assert "--root" in str(done.exception)
    assert os.listdir(here) == []


@pytest.mark.parametrize("command", ["init", "data", "data list", "data check", "data fetch", "data align"])
def test_help_has_an_example(command):
    verb = {"init": init, "data": data}.get(command) or data.commands[command.split()[1]]
    assert f"stagewise {command}" in (verb.help or "")
