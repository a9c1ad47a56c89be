"""Files that cannot be used end a command before anything is trained, or are left out and counted."""

import json
import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile
from data_files import AUDIO, MAKE, RATE, data_folder, noise, picture, run, stagewise_says, state, wav  # noqa: F401
from PIL import Image

import stagewise


def cut(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])


def bomb():
    """A PNG of a few bytes that says it has 40,000 × 40,000 pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b""))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in [*chunks, (b"IEND", b"")]
    )


def harm_audio(data):
    """Write bad recordings; return what is said of each."""
    for name in ("cut.flac", "cut.wav", "cut.ogg", "nearly.wav"):
        cut(wav(data / name, 100_000), 0.9999 if name == "nearly.wav" else 0.5)
    (data / "text.flac").write_text("these are words")
    (data / "nothing.wav").touch()
    wav(data / "rate.wav", rate=22_050)
    wav(data / "stereo.flac", channels=2)
    wav(data / "none.wav", samples=0)
    os.mkfifo(data / "pipe.wav")
    shutil.copy(data / "good-0.wav", data / "two\nlines.wav")
    shutil.copy(os.fsencode(data / "good-0.wav"), os.fsencode(data) + b"/caf\xe9.wav")
    return {
        "cut.flac": "its last frame is not the one that its header says",
        "cut.wav": "it ends before its header says: the file is cut short or damaged",
        "cut.ogg": "it ends before its header says: the file is cut short or damaged",
        "nearly.wav": "it ends before its header says: the file is cut short or damaged",
        "text.flac": "it is no FLAC, WAV, OGG, MP3, AIFF, CAF or AU file: convert it to one",
        "nothing.wav": "the file is empty",
        "rate.wav": "22,050 Hz where 16,000 Hz is expected: set data.resample = true to convert it",
        "stereo.flac": "2 channels where 1 is expected: set data.mono = true to average them",
        "none.wav": "the file holds no samples",
        "pipe.wav": "it is not a regular file",
        "two\\nlines.wav": "its name holds a line break: rename it",
        "caf\\udce9.wav": "its name is not UTF-8: rename it",
    }


def harm_images(data):
    """Write bad images; return what is said of each."""
    for name in ("cut.png", "cut.jpg"):
        cut(picture(data / name, 64), 0.7)
    (data / "text.png").write_text("these are words")
    (data / "nothing.jpg").touch()
    (data / "bomb.png").write_bytes(bomb())
    picture(data / "dot.png", 1)
    Image.fromarray(np.zeros((24, 24), np.float32)).save(data / "float.tif")
    os.mkfifo(data / "pipe.png")
    shutil.copy(os.fsencode(data / "good-0.png"), os.fsencode(data) + b"/caf\xe9.png")
    return {
        "cut.png": "the decoder says: image file is truncated",
        "cut.jpg": "the decoder says: image file is truncated",
        "text.png": "it is not an image of a known kind, or its header is damaged",
        "nothing.jpg": "the file is empty",
        "bomb.png": "it has more than the 67,108,864 pixels that are decoded: shrink it",
        "dot.png": "1 × 1 pixels hold no row of 8 × 8",
        "float.tif": "32-bit pixels have no known range",
        "pipe.png": "it is not a regular file",
        "caf\\udce9.png": "its name is not UTF-8: rename it",
    }


HARM = {"audio": harm_audio, "image": harm_images}


@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize("policy", ["error", "skip"])
def test_bad_files_are_named_before_anything_is_trained(data, monkeypatch, kind, policy):
    monkeypatch.setattr("stagewise.datasets.bad_items.SHOWN", 99)
    text, suffix, make = MAKE[kind]
    for number in range(4):
        make(data / f"good-{number}{suffix}", seed=number)
    reasons = HARM[kind](data)
    advice = "set data.bad_items" if policy == "error" else 'That is more than the 1% that data.bad_items = "skip"'
    for verb in (("run", "--run", "run"), ("plan",)):
        code, words = run(text, f'data.bad_items="{policy}"', verb=verb)
        assert code == 1
        assert f"{len(reasons)} of {len(reasons) + 4} {kind} files cannot be used:" in words
        assert advice in words
        for name, reason in reasons.items():
            assert f"  data/{name}: {reason}" in words
    assert not list(Path("run").glob("stages/*"))


@pytest.mark.parametrize("kind", MAKE)
def test_one_bad_file_in_a_hundred_is_left_out_and_counted(data, kind):
    text, suffix, make = MAKE[kind]
    for number in range(99):
        make(data / f"{number:02d}{suffix}", seed=number)
    (data / f"bad{suffix}").write_text("these are words")
    before = state(data)
    code, words = run(text, 'data.bad_items="skip"', "defaults.train.batch_size=64")
    assert code == 0
    assert f"left out data/bad{suffix}: " in words
    listed = json.loads(Path("run/data.json").read_bytes())
    assert (listed["items"], [item["key"] for item in listed["skipped"]]) == (99, [f"bad{suffix}"])
    assert len(stagewise.open("run").stages["one"].store) == 99
    assert stagewise_says("verify", "run")[0] == 0
    assert state(data) == before


def nan(path, value=np.nan):
    samples = noise()
    samples[777] = value
    soundfile.write(path, samples, RATE, subtype="FLOAT")


def inside(path):
    content = bytearray(wav(path, 30_000).read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


DAMAGE = {
    "nan.wav": (nan, "data/nan.wav holds NaN or an infinity at sample 777. Replace the file"),
    "inf.wav": (lambda path: nan(path, np.inf), "data/inf.wav holds NaN or an infinity at sample 777. Replace"),
    "inside.flac": (inside, "cannot read data/inside.flac: the decoder says: "),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_that_only_reading_finds_stops_the_run_and_nothing_is_made_of_it(data, name):
    for number in range(6):
        wav(data / f"{number}.wav", seed=number)
    harm, words = DAMAGE[name]
    harm(data / name)
    code, said = run(AUDIO, 'data.bad_items="skip"')
    assert (code, words in said) == (1, True), said
    assert not list(Path("run").glob("stages/*/stage.json"))
    wav(data / name)
    assert run(AUDIO, 'data.bad_items="skip"')[0] == 0
    assert stagewise_says("verify", "run")[0] == 0
