"""init, and the verbs about data, as a user meets them."""

import json
import os
import re
import shutil

import pytest
from click.testing import CliRunner
from small_files import png, wav
from test_cli import stagewise

from stagewise.cli import progress
from stagewise.cli.data import data, init
from stagewise.cli.main import main
from stagewise.datasets import SHORT_NAMES, audio, librispeech
from stagewise.errors import ConfigError, DataError, DiskFull
from stagewise.starting import built_in

pytestmark = pytest.mark.usefixtures("no_peaks")


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
    done = call(main, "init", "my birds")
    assert done.exit_code == 0, done.output
    assert "my-birds.toml is written" in done.stdout
    assert "plan for runs/my-birds" in done.stdout
    assert sorted(path.name for path in here.iterdir()) == ["my birds", "my-birds.toml"]
    again = call(main, "init", "my birds")
    assert again.exit_code == 2
    assert "my-birds.toml is there already" in again.stderr
    assert "--force" in again.stderr
    ran = call(main, "run", "my-birds.toml", "--set", "defaults.train.epochs=1", "--json")
    assert ran.exit_code == 0, ran.output
    facts = json.loads(ran.stdout)
    assert facts["state"] == "complete"
    text = (here / "my-birds.toml").read_text().replace("\n# ", " ")
    trained, steps = re.search(r"For training: (\d+) of 8 files.*An epoch has (\d+) step", text).groups()
    assert int(trained) == 5
    assert [stage["train"]["steps"] for stage in facts["stages"]] == [0, *[int(steps)] * 3]  # mel is computed
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


@pytest.mark.parametrize("kind", ["audio", "images"])
def test_init_says_why_its_values_were_chosen(here, kind):
    for number in range(4):
        wav(here / "in" / f"{number}.wav", 2.0) if kind == "audio" else png(here / "in" / f"{number}.png", 96, 96)
    assert call(init, "in").exit_code == 0
    lines = (here / "in.toml").read_text().splitlines()
    first = 'name = "mel"' if kind == "audio" else 'name = "module1"'
    for value in ("epochs =", "patience =", "batch_size =", "optimizer =", "steps =", "negatives =", first):
        (line,) = (line for line in lines if line.startswith(value))
        assert re.search(r" # \w+", line), line
        assert len(line) <= 120


def test_init_looks_at_every_file_once_and_tells_of_progress(here, monkeypatch):
    looked, probe = [], audio.probe

    def counted(path):
        looked.append(path)
        return probe(path)

    for module in (audio, audio):
        monkeypatch.setattr(module, "probe", counted)
    monkeypatch.setattr(progress, "QUIET_SECONDS", -1.0)
    for number in range(70):
        wav(here / "in" / f"{number}.wav", 0.3)
    done = call(init, "in")
    assert done.exit_code == 0, done.output
    assert sorted(looked) == sorted(f"in/{number}.wav" for number in range(70))
    assert [int(count) for count in re.findall(r"look at audio: (\d+) of 70 files", done.stderr)] == [64, 70]
    done = call(data, "check", "in")
    assert "look at audio: 70 of 70 files" in done.stderr
    assert len(looked) == 140


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


def test_check_says_how_many_images_have_no_label(here):
    for part, many in (("train", 6), ("test", 2)):
        for number in range(many):
            png(here / "in" / part / "ab"[number % 2] / f"{number}.png", 40, 40)
    assert "label class: 2 classes of 3 files each\n" in call(data, "check", "in").output
    png(here / "in" / "train" / "loose.png", 40, 40)
    assert "label class: 2 classes of 3 files each; 1 without\n" in call(data, "check", "in").output


def test_check_names_images_that_are_smaller_than_a_patch(here):
    for number in range(4):
        png(here / "in" / "ab"[number % 2] / f"{number}.png", 96, 96)
    png(here / "in" / "a" / "just.png", 16, 96)
    assert "smaller than a patch" not in call(data, "check", "in").output
    png(here / "in" / "a" / "dot.png", 1, 1)
    words = "1 image is smaller than a patch of 16 pixels before being enlarged, and can teach little: a/dot.png"
    assert words in call(data, "check", "in").output


def test_check_counts_and_names_what_is_bad(here):
    wav(here / "in" / "a.wav", 2.0, 44_100, 2)
    wav(here / "in" / "b.wav", 1.0)
    png(here / "in" / "c.png", 30, 20)
    done = call(data, "check", "in")
    assert done.exit_code == 0, done.output
    for words in ("2 audio files", "3.0 s in all", "44,100 (1 file)", "16,000 (1 file)", "1 image,", "30 × 20"):
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


def test_check_ends_with_a_verdict_and_what_to_type(here):
    for number in range(5):
        wav(here / "my in" / "ab"[number % 2] / f"{number}.wav", 2.0 if number else 0.005)
    done = call(data, "check", "my in")
    assert done.exit_code == 0, done.output
    assert done.output.endswith(
        "  label class: 2 classes of 2 (b) to 3 files (a)\n"
        "  warning: only 8.0 s to train on: good for a rehearsal, too little to learn from\n"
        "fit to train on: 4 of 5 recordings (the others do not fill a training window), labels: class; next: stagewise "
        "init 'my in'\n"
    )
    (found,) = json.loads(call(data, "check", "my in", "--json").output)["found"]
    assert (found["fit"], found["items"], found["too_short"]) == (True, 5, 1)
    assert found["labels"] == {"class": {"a": 3, "b": 2}}
    assert "4 of 5 files fill one" in (call(init, "my in"), (here / "my-in.toml").read_text())[1]
    png(here / "my in" / "x.png", 40, 40)
    lines = call(data, "check", "my in").output.splitlines()
    assert [line.partition("; next: ")[2] for line in lines if line.startswith("fit")] == [
        "stagewise init 'my in' --kind audio",
        "stagewise init 'my in' --kind images",
    ]


def test_check_says_what_is_not_fit(here):
    wav(here / "in" / "a.wav", 0.005)
    done = call(data, "check", "in")
    assert "not fit to train on: the longest file has 0.005 s, and training needs 0.078 s" in done.output
    assert "init can make no pipeline file of in: see why above" in str(done.exception)
    done = call(data, "check", "in", "--json")
    (found,) = json.loads(done.output)["found"]
    assert (found["fit"], found["why"].startswith("the longest file has 0.005 s")) == (False, True)
    png(here / "in" / "x.png", 40, 40)
    assert call(data, "check", "in").exit_code == 0


def test_init_says_what_it_does_before_what_takes_seconds(here):
    wav(here / "in" / "a.wav", 2.0)
    done = call(init, "in")
    assert "choosing a pipeline for 1 file and planning it …" in done.stderr
    text = (here / "in.toml").read_text()
    assert f"# as seen from {here}, where you type stagewise" in text
    assert "--set defaults.train.epochs=2" in text


@pytest.mark.parametrize(
    "command", ["data check in", "data align in --out x", "init in", "init {bad}", "init in {bad}"]
)
def test_control_characters_of_names_reach_no_terminal(here, command):
    wav(here / "in" / "a.wav", 0.4)
    bad = "in/bad\x1b[2J\x07.wav"
    (here / bad).write_bytes(b"no sound")
    done = CliRunner().invoke(main, command.format(bad=bad).split())
    assert done.exit_code
    assert "\N{REPLACEMENT CHARACTER}.wav" in done.output
    assert not {"\x1b", "\x07"} & set(done.output)


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


@pytest.mark.parametrize(
    ("unpacked", "words"),
    [
        (None, "cannot download LibriSpeech dev-clean to data (no route to host): type the same command again, or"),
        (0, "data/LibriSpeech/dev-clean holds no utterances: was it interrupted while it was unpacked? Delete this"),
        (1, "data/LibriSpeech/dev-clean holds 1 of the 2 utterances of dev-clean: was it interrupted while it was"),
    ],
)
def test_fetch_that_was_interrupted_says_what_to_type_for_it(here, monkeypatch, unpacked, words):
    def download(root, url, download):
        if unpacked is None:
            raise OSError("no route to host")
        if not (place := here / "data/LibriSpeech" / url).exists():
            place.mkdir(parents=True)
            for number in range(unpacked):
                wav(place / f"1/2/1-2-000{number}.flac", 0.1)
            raise KeyboardInterrupt

    monkeypatch.setattr("torchaudio.datasets.LIBRISPEECH", download)
    monkeypatch.setitem(librispeech.SUBSETS, "dev-clean", (2, 0.1, 1))
    call(data, "fetch", "librispeech", "--subset", "dev-clean")
    said = str(call(data, "fetch", "librispeech", "--subset", "dev-clean").exception)
    assert said.startswith(words)
    assert "data." not in said  # it has no keys of a pipeline file


def test_fetch_of_images_that_fails_has_words_of_its_own_too(here, monkeypatch):
    def unplugged(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", unplugged)
    said = str(call(data, "fetch", "stl10").exception)
    assert "cannot provide STL-10 in data/stl10 (no route to host): type the same command again" in said
    assert "data." not in said


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
