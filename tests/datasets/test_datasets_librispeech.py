"""LibriSpeech's layout wherever it lies, its lists and labels, and the real data."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import soundfile
from audio_examples import RATE, noise

from stagewise.datasets.librispeech import SUBSETS, LibriSpeech
from stagewise.errors import ConfigError, DataError

KEYS = ["10-2-0000", "10-2-0001", "9-1-0000", "9-1-0001", "9-1-0002"]


@pytest.mark.parametrize("below", ["", "train-clean-100", "LibriSpeech/train-clean-100"])
def test_finds_the_subset_wherever_it_lies(speech, tmp_path, below):
    place = tmp_path / "root" / below
    shutil.copytree(speech(KEYS), place)
    data = LibriSpeech(root=str(tmp_path / "root"))
    assert list(data.keys) == KEYS
    assert data.lengths.tolist() == [3000 + 160 * number for number in range(5)]
    assert data.lengths.dtype == np.int64
    assert data.label_classes("speaker") == ["10", "9"]
    assert data.item_labels("speaker").tolist() == [0, 0, 1, 1, 1]
    assert data.bad == []
    ignored = "data.subset, train-clean-100, is not looked for: data.root holds the speakers themselves"
    assert data.notes == []
    named = LibriSpeech(root=str(tmp_path / "root"), subset="train-clean-100")
    assert named.notes == ([] if below else [ignored])
    assert LibriSpeech(root=str(place), subset=place.name).notes == []
    everything = np.concatenate([data.split("train"), data.split("test")])
    assert sorted(everything.tolist()) == list(range(5))
    assert data.split("test").tolist() == sorted(data.split("test").tolist())
    for speaker in (0, 1):
        for name in ("train", "test"):
            assert speaker in data.item_labels("speaker")[data.split(name)]


def test_reads_standardised_samples(speech):
    root = speech(KEYS)
    data = LibriSpeech(root=str(root), mean=0.25, std=0.5)
    samples, _ = soundfile.read(root / "9/1/9-1-0001.flac", dtype="float32")
    result = data.read(3, 100, 900)
    assert result.dtype == np.float32
    assert result.shape == (1, 800)
    np.testing.assert_array_equal(result[0], (samples[100:900] - np.float32(0.25)) / np.float32(0.5))
    assert data.read(3, 5, 5).shape == (1, 0)
    for start, stop in ((-1, 5), (7, 6), (0, len(samples) + 1)):
        with pytest.raises(IndexError):
            data.read(3, start, stop)


def test_only_utterances_are_items(speech):
    root = speech(KEYS)
    for stray in ("9/1/notes.flac", "9/1/8-1-0000.flac", "9/1/9-1-x.flac", "9/1-1-0000.flac", "SPEAKERS.TXT"):
        (root / stray).write_text("not audio")
    (root / "extra" / "1").mkdir(parents=True)
    (root / "extra" / "1" / "1-1-0000.flac").write_text("not audio")
    data = LibriSpeech(root=str(root))
    assert list(data.keys) == KEYS
    (note,) = data.notes
    assert note.startswith("left out, as no utterance is called so: 5 audio files, such as 9/1-1-0000.flac")


def test_lists_choose_the_items(speech, tmp_path):
    (tmp_path / "train.txt").write_text("9-1-0002\n9-1-0000\n")
    (tmp_path / "test.txt").write_text("10-2-0001\n")
    splits = {"train": str(tmp_path / "train.txt"), "test": str(tmp_path / "test.txt")}
    data = LibriSpeech(root=str(speech(KEYS)), splits=splits)
    assert list(data.keys) == ["10-2-0001", "9-1-0000", "9-1-0002"]
    assert data.split("train").tolist() == [1, 2]
    assert data.split("test").tolist() == [0]
    (tmp_path / "test.txt").write_text("10-2-0001\n10-2-0007\n")
    with pytest.raises(DataError, match=r"test.txt:2: 1 line names no file: 10-2-0007: set"):
        LibriSpeech(root=str(speech(KEYS)), splits=splits)


def test_a_listed_file_that_is_skipped_stays_out_of_its_split(speech, tmp_path):
    keys = [f"1-1-{number:04d}" for number in range(120)]
    root = speech(keys)
    (root / "1/1/1-1-0003.flac").write_text("text")
    (tmp_path / "train.txt").write_text("\n".join(keys[:100]))
    (tmp_path / "test.txt").write_text("\n".join(keys[100:]))
    splits = {"train": str(tmp_path / "train.txt"), "test": str(tmp_path / "test.txt")}
    data = LibriSpeech(root=str(root), splits=splits, bad_items="skip")
    assert [item.key for item in data.bad] == ["1-1-0003"]
    assert (len(data), len(data.split("train")), len(data.split("test"))) == (119, 99, 20)
    assert data.keys[3] == "1-1-0004"
    assert data.read(3, 0, int(data.lengths[3])).shape == (1, 3000 + 160 * 4)


def test_phones(speech, tmp_path):
    (tmp_path / "phones.txt").write_text("9-1-0000 " + " ".join(["3"] * 19) + "\n")
    data = LibriSpeech(root=str(speech(KEYS)), phones=str(tmp_path / "phones.txt"))
    assert data.label_kind("phones") == "frames"
    assert data.frame_labels("phones", 0) is None
    assert data.frame_labels("phones", 2).classes.tolist() == [3] * 19
    assert data.label_classes("phones") == ["0", "1", "2", "3"]


def test_tables_of_labels(speech, tmp_path):
    root = speech(KEYS)
    base = LibriSpeech(root=str(root))
    for name in (
        lambda key: key,
        lambda key: f"{key}.flac",
        lambda key: "/".join([*key.split("-")[:2], f"{key}.flac"]),
    ):
        lines = [f"{name(key)},{'ab'[number % 2]}" for number, key in enumerate(base.keys)]
        (tmp_path / "sex.csv").write_text("\n".join(["file,sex", *lines]))
        data = LibriSpeech(root=str(root), labels={"sex": str(tmp_path / "sex.csv")})
        assert data.label_classes("sex") == ["a", "b"]
        assert data.item_labels("sex").tolist() == [number % 2 for number in range(len(base.keys))]
        assert data.label_kind("speaker") == "item"
        assert data.fingerprint() == base.fingerprint()  # the split is that of the speakers: nothing is trained again
        assert data.split("test").tolist() == base.split("test").tolist()
    speakers = sorted({key.split("-")[0] for key in base.keys})
    lines = [f"{speaker},{'ab'[number % 2]}" for number, speaker in enumerate(speakers)]
    (tmp_path / "sex.csv").write_text("\n".join(["folder,sex", *lines]))
    data = LibriSpeech(root=str(root), labels={"sex": str(tmp_path / "sex.csv")})
    assert data.item_labels("sex").tolist() == [speakers.index(key.split("-")[0]) % 2 for key in base.keys]


@pytest.mark.parametrize("labels", [{"sex": "folder"}, {"sex": 3}])
def test_labels_that_are_no_tables(speech, labels):
    with pytest.raises(ConfigError, match=r"data.labels\..* is .*: set it to the path of a .csv or .tsv file"):
        LibriSpeech(root=str(speech(KEYS)), labels=labels)
    with pytest.raises(ConfigError, match="data.labels must be a table"):
        LibriSpeech(root=str(speech(KEYS)), labels="x.csv")
    for own in ("speaker", "phones"):
        with pytest.raises(ConfigError, match=rf"data.labels.{own}: `{own}` comes from .*; give the label, and its"):
            LibriSpeech(root=str(speech(KEYS)), labels={own: "x.csv"})


def test_a_relative_root_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=rf"speech is not there \(paths start where you type, in {tmp_path}\): type"):
        LibriSpeech(root="speech")


def test_fingerprint_follows_what_changes_training(speech, tmp_path):
    root = speech(KEYS)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(root, elsewhere)
    base = LibriSpeech(root=str(root)).fingerprint()
    assert LibriSpeech(root=str(elsewhere)).fingerprint() == base
    labels = tmp_path / "phones.txt"
    labels.write_text("9-1-0000 " + " ".join(["3"] * 19) + "\n")
    assert LibriSpeech(root=str(root), phones=str(labels)).fingerprint() == base
    assert LibriSpeech(root=str(root), mean=0.0).fingerprint() != base
    assert LibriSpeech(root=str(root), std=1.0).fingerprint() != base
    assert LibriSpeech(root=str(root), test_fraction=0.5).fingerprint() != base
    soundfile.write(elsewhere / "9/1/9-1-0001.flac", noise(77, 3000 + 160 * 3), RATE)  # as long, other bytes
    assert LibriSpeech(root=str(elsewhere)).fingerprint() != base
    (elsewhere / "9/1/9-1-0001.flac").unlink()
    assert LibriSpeech(root=str(elsewhere)).fingerprint() != base


def test_nothing_is_written_below_the_root(speech):
    root = speech(KEYS)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    data = LibriSpeech(root=str(root))
    data.read(0, 0, 10)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize("exists", [True, False])
def test_nothing_there(tmp_path, exists):
    root = tmp_path / "data"
    if exists:
        root.mkdir()
    with pytest.raises(DataError, match=r"no utterances in .*--set data.root=FOLDER.*--set data.download=true"):
        LibriSpeech(root=str(root))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bad_items": "ignore"}, 'data.bad_items is \'ignore\': set it to "error" or "skip"'),
        ({"test_fraction": 1.0}, "data.test_fraction is 1.0"),
        ({"test_fraction": -0.1}, "data.test_fraction is -0.1"),
        ({"std": 0.0}, "data.std is 0.0: set it to a number above 0"),
        ({"std": float("nan")}, "data.std is nan"),
        (
            {"subset": "dev", "download": True},
            "data.subset is 'dev': to download, set it to one of train-clean-100",
        ),
    ],
)
def test_arguments_out_of_range(speech, arguments, message):
    with pytest.raises(ConfigError, match=message):
        LibriSpeech(root=str(speech(KEYS)), **arguments)


def test_download_only_if_absent_and_only_whole(speech, tmp_path, monkeypatch):
    calls = []

    def download(root, url, download):
        calls.append((root, url, download))
        shutil.copytree(source, root / "LibriSpeech" / url)

    source = speech(KEYS)
    monkeypatch.setattr("torchaudio.datasets.LIBRISPEECH", download)
    monkeypatch.setitem(SUBSETS, "dev-clean", (5, 0.001))
    root = tmp_path / "data" / "new"
    for _ in range(2):
        data = LibriSpeech(root=str(root), subset="dev-clean", download=True)
        assert list(data.keys) == KEYS
    assert calls == [(root, "dev-clean", True)]
    (root / "LibriSpeech/dev-clean/9/1/9-1-0001.flac").unlink()
    with pytest.raises(DataError, match=r"holds 4 of the 5 utterances of dev-clean: .*Delete this folder"):
        LibriSpeech(root=str(root), subset="dev-clean", download=True)
    assert len(LibriSpeech(root=str(root), subset="dev-clean")) == 4


def test_a_failed_download(tmp_path, monkeypatch):
    def download(root, url, download):
        raise OSError("no route to host")

    monkeypatch.setattr("torchaudio.datasets.LIBRISPEECH", download)
    with pytest.raises(DataError, match=r"cannot download LibriSpeech dev-clean .*no route to host.*type the same"):
        LibriSpeech(root=str(tmp_path), subset="dev-clean", download=True)


def test_expected_sizes():
    expected = LibriSpeech.expected(root="anywhere", subset="train-clean-100")
    assert (expected.items, expected.samples) == (28_539, round(100.59 * 3600 * 16_000))
    assert "train-clean-100" in expected.source
    assert (expected.row_shape, expected.crop, expected.classes) == ((1,), None, {"speaker": 251})
    labelled = LibriSpeech.expected(root="x", subset="train-clean-100", phones="phones.txt")
    assert labelled.classes == {"speaker": 251, "phones": 41}
    assert LibriSpeech.expected(root="x", subset="dev-clean").items == 2703
    assert LibriSpeech.expected(root="x") is None
    assert LibriSpeech.expected(root="x", subset="mine") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission(speech):
    root = speech(KEYS)
    speaker = next(path for path in root.rglob("[0-9]*") if path.is_dir())
    chapter = next(path for path in speaker.iterdir() if path.is_dir())
    for folder in (root, speaker, chapter):
        folder.chmod(0)
        try:
            with pytest.raises(DataError, match="check its permissions"):
                LibriSpeech(root=str(root))
        finally:
            folder.chmod(0o755)
    root.parent.chmod(0)
    try:
        assert LibriSpeech.is_there(root=str(root))
    finally:
        root.parent.chmod(0o755)


def test_the_real_sample(shared):
    folder = shared / "librispeech-sample"
    data = LibriSpeech(
        root=str(folder),
        splits={"train": str(folder / "train.txt"), "test": str(folder / "test.txt")},
        phones=str(folder / "phone_alignment.txt"),
    )
    assert (len(data), len(data.split("train")), len(data.split("test"))) == (92, 72, 20)
    assert len(data.label_classes("phones")) == 40
    assert len(data.label_classes("speaker")) == 10
    assert round(int(data.lengths.sum()) / 16_000) == 615
    item = list(data.keys).index("1688-142285-0000")
    labels = data.frame_labels("phones", item)
    assert labels.classes[:56].tolist() == [0] * 51 + [10] * 5
    assert len(labels.classes) == 1 + (data.lengths[item] - 400) // 160
    everything = np.concatenate([data.read(item, 0, int(data.lengths[item]))[0] for item in range(0, 92, 8)])
    assert 0.5 < everything.std() < 2


def test_the_published_format(shared):
    folder = shared / "cpc-format"
    data = LibriSpeech(root=str(folder / "test_db"), phones=str(folder / "converted_aligned_phones.txt"))
    assert len(data) == 9
    lengths = {}
    for item, key in enumerate(data.keys):
        labels = data.frame_labels("phones", item)
        if labels is not None:
            lengths[key] = (len(labels.classes), int(data.lengths[item]))
    assert lengths == {"2911-12359-0007": (508, 81_520), "4051-11218-0044": (1119, 179_360)}


def test_one_utterance_of_each_of_251_speakers(shared):
    data = LibriSpeech(root=str(shared / "librispeech-251"))
    assert len(data) == 251
    assert len(data.label_classes("speaker")) == 251
    assert len(data.split("test")) == 50
