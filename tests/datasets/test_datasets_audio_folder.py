"""Any folder of audio files: which files are items, and their labels."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_examples import RATE, noise

from stagewise.datasets.audio_folder import AudioFolder
from stagewise.errors import ConfigError, DataError

FILES = ["anna/one.flac", "anna/sad/two.WAV", "ben/sad/three.ogg", "ben/four.mp3", "five.wav"]


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "audio"
    for number, name in enumerate(FILES):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(number, 4000 + number), RATE)
    return root


def test_finds_every_format_at_every_depth(folder):
    (folder / "notes.txt").write_text("not audio")
    (folder / "._one.flac").write_text("what macOS leaves behind")
    (folder / ".trash").mkdir()
    (folder / ".trash" / "old.flac").write_text("deleted")
    data = AudioFolder(root=str(folder))
    assert list(data.keys) == sorted(FILES)
    assert dict(zip(data.keys, data.lengths.tolist(), strict=True)) == {
        name: 4000 + number for number, name in enumerate(FILES)
    }
    for item in range(len(data)):
        length = int(data.lengths[item])
        np.testing.assert_array_equal(data.read(item, 0, length)[:, 700:900], data.read(item, 700, 900))
    assert len(data.split("test")) == 1
    assert data.labels == {}


def test_labels_from_folders(folder):
    data = AudioFolder(root=str(folder), labels={"speaker": "folder", "mood": "folder:2"})
    speakers = dict(zip(data.keys, data.item_labels("speaker").tolist(), strict=True))
    assert speakers == {
        "anna/one.flac": 0,
        "anna/sad/two.WAV": 0,
        "ben/sad/three.ogg": 1,
        "ben/four.mp3": 1,
        "five.wav": -1,
    }
    assert data.label_classes("speaker") == ["anna", "ben"]
    assert data.label_classes("mood") == ["sad"]
    assert sorted(data.item_labels("mood").tolist()) == [-1, -1, -1, 0, 0]
    assert set(data.item_labels("speaker")[data.split("test")].tolist()) >= {0, 1}


def table(tmp_path, text):
    (tmp_path / "labels.csv").write_text(text)
    return str(tmp_path / "labels.csv")


def test_labels_from_a_table(folder, tmp_path):
    path = table(tmp_path, 'mood,file,note\nsad,anna/one.flac,"a, b"\nglad,ben/four,\n,five.wav,\nsad,gone.wav,\n')
    data = AudioFolder(root=str(folder), labels={"mood": path})
    moods = dict(zip(data.keys, data.item_labels("mood").tolist(), strict=True))
    assert data.label_classes("mood") == ["glad", "sad"]
    assert moods["anna/one.flac"] == 1
    assert moods["ben/four.mp3"] == 0
    assert sorted(moods.values()) == [-1, -1, -1, 0, 1]


def test_a_class_of_a_folder_is_that_of_all_below_it(folder, tmp_path):
    path = table(tmp_path, "folder,mood\nanna/,sad\n./ben,glad\nnobody,glad\n")
    data = AudioFolder(root=str(folder), labels={"mood": path})
    moods = dict(zip(data.keys, data.item_labels("mood").tolist(), strict=True))
    assert data.label_classes("mood") == ["glad", "sad"]
    assert {key: mood for key, mood in moods.items() if mood >= 0} == {
        key: int(key.startswith("anna/")) for key in data.keys if key.startswith(("anna/", "ben/"))
    }


def test_a_file_is_also_called_without_its_folder(folder, tmp_path):
    (folder / "other").mkdir()
    soundfile.write(folder / "other" / "five.wav", noise(9), RATE)
    data = AudioFolder(root=str(folder), labels={"mood": table(tmp_path, "file,mood\none,sad\nfour.mp3,glad\n")})
    moods = dict(zip(data.keys, data.item_labels("mood").tolist(), strict=True))
    assert (moods["anna/one.flac"], moods["ben/four.mp3"], moods["five.wav"]) == (1, 0, -1)
    data = AudioFolder(root=str(folder), labels={"mood": table(tmp_path, "file,mood\nfive.wav,sad\none,glad\n")})
    moods = dict(zip(data.keys, data.item_labels("mood").tolist(), strict=True))
    assert (moods["five.wav"], moods["other/five.wav"]) == (1, -1)  # a whole name comes first
    soundfile.write(folder / "other" / "two.wav", noise(9), RATE)
    with pytest.raises(DataError, match="labels.csv:2: two is the name of several files"):
        AudioFolder(root=str(folder), labels={"mood": table(tmp_path, "file,mood\ntwo,sad\n")})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name,mood\n",
            r"labels.csv:1: the first line must name the columns `file` \(or `folder`\) and .* says: name, mood",
        ),
        ("file,mood\nfive.wav\n", "labels.csv:2: 1 column where the first line has 2"),
        ("file,mood\n\n\nfive.wav,sad,now\n", "labels.csv:4: 3 columns where the first line has 2"),
        (
            "file,mood\ngone.wav,sad\n",
            r"none of its files is .* \(1 line names no file: gone.wav\): write paths as 'anna/one.flac'",
        ),
        (
            "file,mood\nanna,sad\n",
            "none of its files is in the data set .*: they are folders: begin with `folder,mood`",
        ),
        (
            "folder,mood\nnone/,sad\n",
            "none of its folders is in the data set .*names no folder: none/.: write paths as 'anna'",
        ),
        ("folder,mood\nanna,sad\nanna/sad,glad\n", "anna/sad is here a second time, for anna/sad/two.WAV,: delete"),
        ("", "labels.csv is empty: write `file,mood` into its first line"),
        ("file,mood\n \n,\n", "labels.csv holds no line below its first: write one file a line"),
        ('file,mood\n"five.wav,sad\n', "labels.csv:2: not cells between commas .unexpected end of data.: a quoted"),
        ("five.wav,sad\nfour.mp3,glad\n", "labels.csv:1: the first line names a file, not columns: write `file,mood`"),
        ("file,moods\nfive.wav,sad\n", "labels.csv:1: there is no column `mood`; there are: file, moods"),
        ("file,Mood,MOOD\nfive.wav,sad,x\n", "labels.csv:1: two columns are called mood: give one of them another"),
    ],
)
def test_a_table_that_does_not_fit(folder, tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        AudioFolder(root=str(folder), labels={"mood": table(tmp_path, text)})


def test_label_sources_that_are_none(folder, tmp_path):
    with pytest.raises(ConfigError, match=r'data.labels.mood is "folder:0": set it to "folder", "folder:2", the path'):
        AudioFolder(root=str(folder), labels={"mood": "folder:0"})
    with pytest.raises(ConfigError, match=r"data.labels must be a table"):
        AudioFolder(root=str(folder), labels="folder")
    with pytest.raises(DataError, match=r"cannot read none.csv \(No such file"):
        AudioFolder(root=str(folder), labels={"mood": "none.csv"})
    table(folder, "file,mood\nfive.wav,sad\n")
    with pytest.raises(DataError, match=r"labels.csv is missing: paths start at the current folder; type .*audio/lab"):
        AudioFolder(root=str(folder), labels={"mood": "labels.csv"})


def test_lists_take_keys_with_and_without_suffix(folder, tmp_path):
    soundfile.write(folder / "five.flac", noise(9), RATE)
    (tmp_path / "train.txt").write_text("anna/sad/two\nfive.wav\n")
    (tmp_path / "test.txt").write_text("ben/four.mp3\n")
    splits = {name: str(tmp_path / f"{name}.txt") for name in ("train", "test")}
    data = AudioFolder(root=str(folder), splits=splits)
    assert list(data.keys) == ["anna/sad/two.WAV", "ben/four.mp3", "five.wav"]
    assert data.split("test").tolist() == [1]
    (tmp_path / "train.txt").write_text("five\n")  # five.flac or five.wav?
    with pytest.raises(DataError, match=r"train.txt:1: five is the name of several files: write it with its folder"):
        AudioFolder(root=str(folder), splits=splits)


def test_names_of_every_kind(tmp_path):
    names = ["with space.flac", "émoji 🎺.flac", "x" * 250 + ".flac", "Case.flac", "case.flac"]
    for name in names:
        soundfile.write(tmp_path / name, noise(1, 500), RATE)
    data = AudioFolder(root=str(tmp_path))
    assert list(data.keys) == sorted(names)
    assert data.read(0, 10, 20).shape == (1, 10)


def test_names_that_cannot_be_keys(tmp_path):
    soundfile.write(tmp_path / "good.flac", noise(1, 500), RATE)
    data = (tmp_path / "good.flac").read_bytes()
    (tmp_path / "two\nlines.flac").write_bytes(data)
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.flac")).write_bytes(data)
    with pytest.raises(DataError) as error:
        AudioFolder(root=str(tmp_path))
    assert "2 of 3 audio files cannot be used" in str(error.value)
    assert r"caf\udce9.flac: its name is not UTF-8: rename it" in str(error.value)
    assert r"two\nlines.flac: its name holds a line break: rename it" in str(error.value)
    str(error.value).encode()


def test_links_are_followed_once(folder, tmp_path):
    (tmp_path / "other").mkdir()
    soundfile.write(tmp_path / "other" / "six.flac", noise(6), RATE)
    (folder / "linked").symlink_to(tmp_path / "other")
    (folder / "anna" / "up").symlink_to(folder)
    (folder / "twice").symlink_to(tmp_path / "other")
    found = AudioFolder(root=str(folder))
    assert list(found.keys) == sorted([*FILES, "linked/six.flac"])
    assert list(found.notes) == ["links to folders that are taken once: anna/up, twice"]


def test_no_files(tmp_path):
    with pytest.raises(DataError, match=r"no audio files .* below .*--set data.root=FOLDER"):
        AudioFolder(root=str(tmp_path))
    with pytest.raises(DataError, match=r"cannot read .*none \(No such file or directory\): correct data.root"):
        AudioFolder(root=str(tmp_path / "none"))


def test_one_item(tmp_path):
    soundfile.write(tmp_path / "one.flac", noise(1, 500), RATE)
    data = AudioFolder(root=str(tmp_path))
    assert data.split("train").tolist() == [0]
    assert data.split("test").tolist() == []


def test_expected_is_unknown():
    assert AudioFolder.expected(root="x") is None
