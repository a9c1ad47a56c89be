"""Odd recordings, images and names that are whole are trained on and encoded, and not touched."""

import io
import struct

import numpy as np
import soundfile
from data_files import (
    AUDIO,
    IMAGES,
    RATE,
    data_folder,  # noqa: F401
    noise,
    picture,
    pixels,
    run,
    stagewise_says,
    state,
    wav,
)
from PIL import Image

import stagewise

NAMES = ["with space", "emoji 🎺 é", "x" * 251, "Case", "case", "two ends", "-dash", "#;,'\"", "%s {0} [red]"]


def test_odd_recordings_and_names_are_trained_on_and_encoded(data):
    for number, name in enumerate(NAMES):
        wav(data / "ann" / f"{name}.wav", seed=number)
    wav(data / "bob" / "24.wav", subtype="PCM_24")
    wav(data / "bob" / "24.flac", seed=24, subtype="PCM_24")  # the same name but for the suffix, and another recording
    wav(data / "bob" / "fast.wav", rate=44_100, channels=2)
    wav(data / "bob" / "one sample.wav", 1)
    wav(data / "bob" / "short.wav", 40)
    before = state(data)
    code, words = run(AUDIO, "data.resample=true", "data.mono=true", "data.test_fraction=0", "data.validation=0")
    assert code == 0, words
    assert "too short for a window of 16 rows, and encoded but not trained on: 2 of 14 training items" in words
    lengths = stagewise.open("run").stages["one"].store.lengths
    assert sorted(lengths.tolist()) == [0, 7, 72, *[199] * 11]  # 44,100 Hz: 363 samples
    assert stagewise_says("verify", "run")[0] == 0
    assert state(data) == before


def test_odd_images_are_trained_on_and_encoded(data):
    for number, name in enumerate(NAMES):
        picture(data / "cat" / f"{name}.png", seed=number)
    sixteen = np.asarray(pixels().convert("L")).astype(np.uint16) * 256
    Image.fromarray(sixteen).save(data / "cat" / "16 bits.png")
    pixels().convert("CMYK").save(data / "cat" / "cmyk.jpg")
    picture(data / "cat" / "small.png", 9)
    before = state(data)
    code, words = run(IMAGES, "data.test_fraction=0", "data.validation=0")
    assert code == 0, words
    assert "not trained on: 1 of 12 training items" in words
    assert sorted(stagewise.open("run").stages["one"].store.lengths.tolist()) == [1, *[25] * 11]
    assert stagewise_says("verify", "run")[0] == 0
    assert state(data) == before


def test_a_stream_that_never_knew_its_length_is_whole(data):
    """What a pipe writes says 4 GB, or 2 GB: it is as long as it is."""
    for name, size in (("ffmpeg", 0xFFFFFFFF), ("sox", 0x7FFFFFFF - 36)):
        buffer = io.BytesIO()
        soundfile.write(buffer, noise(), RATE, format="WAV", subtype="PCM_16")
        content = bytearray(buffer.getvalue())
        content[40:44] = struct.pack("<I", size)
        (data / f"{name}.wav").write_bytes(content)
    code, said = run(AUDIO)
    assert code == 0, said
    assert stagewise.open("run").stages["one"].store.lengths.tolist() == [199, 199]


def test_bytes_behind_a_whole_recording_and_a_padding_byte_that_is_counted_harm_nothing(data):
    soundfile.write(data / "tagged.ogg", noise(), RATE, format="OGG", subtype="VORBIS")
    (data / "tagged.ogg").write_bytes((data / "tagged.ogg").read_bytes() + b"TAG" + bytes(125))
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(), RATE, format="WAV", subtype="PCM_16")
    content = bytearray(buffer.getvalue())
    content[40:44] = struct.pack("<I", len(content) - 44 + 1)
    (data / "padded.wav").write_bytes(content)
    code, said = run(AUDIO)
    assert code == 0, said
    assert stagewise.open("run").stages["one"].store.lengths.tolist() == [199, 199]
