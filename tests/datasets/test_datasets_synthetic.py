"""Synthetic speech: the same bytes each time, exact labels, and never half a corpus."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stagewise.datasets import corpus
from stagewise.datasets.corpus import Request, Speech, frame_phones, phone_class, speak
from stagewise.datasets.synthetic_speech import VOICES, SyntheticSpeech, _utterances, sentence
from stagewise.errors import ConfigError, DataError, DiskError, IntegrityError

SMALL = {"voices": 3, "sentences": 4}


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    pytest.importorskip("espeakng_loader")
    root = tmp_path_factory.mktemp("synthetic")
    SyntheticSpeech(root=str(root), **SMALL)
    return root


def test_the_data_set(root):
    data = SyntheticSpeech(root=str(root), **SMALL)
    assert len(data) == 12
    assert data.sample_rate == 16_000
    assert list(data.keys)[:5] == ["01-1-0000", "01-1-0001", "01-1-0002", "01-1-0003", "02-1-0000"]
    assert data.label_classes("speaker") == ["01", "02", "03"]
    assert np.all((data.lengths > 1.5 * 16_000) & (data.lengths < 5 * 16_000))
    assert len(data.split("test")) == 3
    assert data.label_classes("phones")[0] == "SIL"
    everything = np.concatenate([data.read(item, 0, int(data.lengths[item]))[0] for item in range(12)])
    assert abs(everything.mean()) < 0.1
    assert 0.5 < everything.std() < 1.5
    expected = SyntheticSpeech.expected(root="x", **SMALL)
    assert (expected.items, expected.classes) == (12, {"speaker": len(data.label_classes("speaker"))})
    assert abs(expected.samples / int(data.lengths.sum()) - 1) < 0.2
    assert SyntheticSpeech.expected().items == 200


def test_labels_follow_the_sound(root):
    """Hissing phones are known by their sound alone: their energy lies above 3 kHz."""
    data = SyntheticSpeech(root=str(root), **SMALL)
    names = data.label_classes("phones")
    high = {"s": [], "m": [], "aa": [], "n": []}
    for item in range(len(data)):
        samples = data.read(item, 0, int(data.lengths[item]))[0]
        labels = data.frame_labels("phones", item)
        assert len(labels.classes) == 1 + (len(samples) - 400) // 160
        for frame, number in enumerate(labels.classes):
            if names[number] in high:
                spectrum = np.abs(np.fft.rfft(samples[160 * frame : 160 * frame + 400])) ** 2
                high[names[number]].append(spectrum[75:].sum() / spectrum.sum())
    hiss = np.median(high.pop("s"))
    assert hiss > 0.6
    for name, energies in high.items():
        assert np.median(energies) < 0.2, name


def test_the_same_bytes_on_each_generation(root, tmp_path):
    SyntheticSpeech(root=str(tmp_path), **SMALL)
    assert contents(tmp_path) == contents(root)


def test_it_is_generated_once(root, monkeypatch):
    def never(*arguments):
        raise AssertionError("spoken a second time")

    monkeypatch.setattr(corpus, "speak", never)
    before = contents(root)
    first = SyntheticSpeech(root=str(root), **SMALL)
    assert SyntheticSpeech(root=str(root), **SMALL).fingerprint() == first.fingerprint()
    assert contents(root) == before


def test_other_settings_lie_beside(root, tmp_path):
    SyntheticSpeech(root=str(tmp_path), voices=1, sentences=1)
    before = contents(tmp_path)
    one = SyntheticSpeech(root=str(tmp_path), voices=1, sentences=1)
    other = SyntheticSpeech(root=str(tmp_path), voices=1, sentences=1, seed=1)
    assert one.fingerprint() != other.fingerprint()
    assert before.items() <= contents(tmp_path).items()
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2


def test_an_interrupted_generation_starts_anew(root, tmp_path, monkeypatch):
    class KilledError(BaseException):
        pass

    def killed(requests):
        for number, answer in enumerate(speak(requests)):
            if number == 7:
                raise KilledError
            yield answer

    monkeypatch.setattr(corpus, "speak", killed)
    with pytest.raises(KilledError):
        SyntheticSpeech(root=str(tmp_path), **SMALL)
    assert len(contents(tmp_path)) == 7
    assert all(".partial/" in name for name in contents(tmp_path))
    monkeypatch.undo()
    SyntheticSpeech(root=str(tmp_path), **SMALL)
    assert contents(tmp_path) == contents(root)


def test_two_processes_at_once(root, tmp_path):
    code = (
        "from stagewise.datasets.synthetic_speech import SyntheticSpeech; "
        f"SyntheticSpeech(root={str(tmp_path)!r}, voices=3, sentences=4)"
    )
    children = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    assert contents(tmp_path) == contents(root)


def test_a_damaged_corpus_says_what_to_delete(tmp_path):
    SyntheticSpeech(root=str(tmp_path), voices=1, sentences=2)
    (folder,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    (folder / "01/1/01-1-0001.flac").unlink()
    with pytest.raises(IntegrityError, match=r"holds 1 of 2 utterances\. Delete the folder .* and type the same"):
        SyntheticSpeech(root=str(tmp_path), voices=1, sentences=2)
    (folder / "complete.json").write_text("[]")
    with pytest.raises(IntegrityError, match=r"complete.json does not belong to this folder\. Delete the folder"):
        SyntheticSpeech(root=str(tmp_path), voices=1, sentences=2)
    (folder / "complete.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"complete.json is damaged .*Delete the folder"):
        SyntheticSpeech(root=str(tmp_path), voices=1, sentences=2)


def test_a_root_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"cannot write synthetic speech to .*--set data.root=FOLDER"):
        SyntheticSpeech(root=str(tmp_path / "file" / "below"), **SMALL)


def test_a_full_disk(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskError, match="disk full at"):
        SyntheticSpeech(root=str(tmp_path), **SMALL)
    monkeypatch.undo()
    assert len(SyntheticSpeech(root=str(tmp_path), **SMALL)) == 12


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ConfigError, match=r"pip install 'stagewise\[speech\]'"):
        SyntheticSpeech(root=str(tmp_path), **SMALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"voices": 0}, "data.voices is 0: set it to a number from 1 to 12"),
        ({"voices": 13}, "data.voices is 13"),
        ({"sentences": 0}, "data.sentences is 0: set it to a number from 1 to 9999"),
    ],
)
def test_arguments_out_of_range(tmp_path, arguments, message):
    with pytest.raises(ConfigError, match=message):
        SyntheticSpeech(root=str(tmp_path), **arguments)


def test_a_voice_that_does_not_exist():
    with pytest.raises(DataError, match=r"espeak-ng stopped with code 1 \(RuntimeError: espeak-ng cannot say"):
        list(speak([Request("Hello.", "no-such-voice", 170, 50, 60)]))


def test_a_library_that_crashes(tmp_path, monkeypatch):
    (tmp_path / "espeak.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
    monkeypatch.setattr(corpus, "__file__", str(tmp_path / "speech.py"))
    with pytest.raises(DataError, match=r"espeak-ng stopped with code -11 \(no message\): type pip install"):
        list(speak([Request("Hello.", "en-us", 170, 50, 60)]))


def test_every_voice_speaks_the_same_after_the_others():
    requests = [utterance.request for utterance in _utterances(len(VOICES), 2, 0)]
    first, second = ([answer.samples for answer in speak(requests)] for _ in range(2))
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)
        assert np.abs(one).max() > 3000


def test_sentences_are_a_pure_function():
    assert sentence(0, 0, 0) == sentence(0, 0, 0)
    texts = {sentence(seed, voice, number) for seed in range(2) for voice in range(10) for number in range(20)}
    assert len(texts) == 400
    assert all(text[0].isupper() and text.endswith(".") and text.isascii() for text in texts)


def test_frames_take_the_phone_at_their_centre():
    # Centres of the frames at 200, 360, 520 … of 16 kHz are 100, 180, 260 … of 8 kHz.
    speech_at_8_khz = Speech(np.zeros(600, np.int16), 8000, [(101, "'aa"), (180, "t#"), (300, "_:")])
    assert frame_phones(speech_at_8_khz, 1200) == ["SIL", "t", "t", "SIL", "SIL", "SIL"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("'oU", "oU"),
        (",0", "0"),
        ("I2", "I"),
        ("t#", "t"),
        ("r-", "r"),
        ("_:", "SIL"),
        ("_", "SIL"),
        (";", "j"),
    ],
)
def test_phone_classes(name, expected):
    assert phone_class(name) == expected


def test_the_marker_names_the_settings(root):
    (marker,) = root.glob("*/complete.json")
    assert json.loads(marker.read_text()) == {
        "format": 1,
        "settings": {"generator": 1, "voices": 3, "sentences": 4, "seed": 0},
        "items": 12,
    }
