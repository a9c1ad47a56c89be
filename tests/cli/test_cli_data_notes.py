"""What data check, init, plan and embed say of what they leave out, and of what is silent."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from small_files import png, wav

from stagewise.cli.main import main

pytestmark = pytest.mark.usefixtures("no_peaks")


@pytest.fixture(autouse=True, name="here")
def current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def says(*line):
    done = CliRunner().invoke(main, [str(word) for word in line])
    assert "Traceback" not in done.output
    return done.exit_code, done.stdout + done.stderr


def test_what_is_left_out_is_named_by_every_command(here):
    for number in range(6):
        wav(here / "birds" / "data" / "ab"[number % 2] / f"{number}.wav", 0.4 + number / 10)
    shutil.copy(here / "birds/data/a/0.wav", here / "birds/data/a/0.m4a")
    shutil.copytree(here / "birds/data", here / "birds/@eaDir")
    (here / "birds/data/b").joinpath(".hidden.wav").touch()
    soundfile.write(here / "birds/data/a/0.flac", soundfile.read(here / "birds/data/a/0.wav")[0], 16_000)
    notes = [
        "left out by their suffix: 1 .m4a",
        "left out: 1 file whose names begin with a dot",
        "folders of other programs, which were not looked into: 1 @eaDir",
        "left out, since another file of the same name holds the same: 1 file, such as data/a/0.wav beside "
        "data/a/0.flac",
    ]
    deeper = "all lie in birds/data, which holds 2 folders: name that one, if they are the classes"
    code, words = says("data", "check", "birds")
    assert code == 0
    assert [line.strip() for line in words.splitlines() if line.strip() in [*notes, deeper]] == [*notes, deeper]
    assert "6 audio files" in words
    code, words = says("init", "birds")
    assert code == 0
    assert all(note in words for note in [*notes, deeper])
    text = (here / "birds.toml").read_text()
    assert all(f"# {note}" in text for note in [*notes, deeper])
    code, words = says("plan", "birds.toml")
    assert code == 0
    assert all(note in words for note in notes)
    found = json.loads(CliRunner().invoke(main, ["data", "check", "birds", "--json"]).stdout)["found"][0]
    assert found["notes"] == [*notes, deeper, *found["notes"][5:]]


def test_a_folder_above_the_classes_of_images_gets_a_hint(here):
    for number in range(8):
        png(here / "photos" / "all" / "ab"[number % 2] / f"{number}.png", 48, 48)
    code, words = says("data", "check", "photos")
    assert code == 0
    assert "all lie in photos/all, which holds 2 folders: name that one, if they are the classes" in words
    assert "all lie in" not in says("data", "check", "photos/all")[1]


def test_silent_recordings_are_named(here):
    for number in range(3):
        wav(here / "in" / f"{number}.wav", 1)
    soundfile.write(here / "in/silent.wav", np.zeros(200_000, np.float32), 16_000)
    soundfile.write(here / "in/steady.flac", np.full(100, 0.25, np.float32), 16_000)
    late = np.zeros(100_000, np.float32)
    late[-1] = 0.5
    soundfile.write(here / "in/late.wav", late, 16_000)
    code, words = says("data", "check", "in")
    assert code == 0
    assert "warning: every sample is the same, in 2 recordings: silent.wav, steady.flac\n" in words


def test_a_jpeg_that_was_cut_and_closed_is_bad_to_data_check(here):
    for number in range(3):
        png(here / "in" / f"{number}.png", 48, 48)
    png(here / "in" / "cut.jpg", 48, 48)
    content = (here / "in/cut.jpg").read_bytes()
    (here / "in/cut.jpg").write_bytes(content[: len(content) * 2 // 3] + b"\xff\xd9")
    code, words = says("data", "check", "in")
    assert code == 1
    assert "bad: in/cut.jpg: it is cut short, though it is closed: a part of it is grey" in words
