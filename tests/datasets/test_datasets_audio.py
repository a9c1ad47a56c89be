"""Slices of audio files are exact, and a file that cannot be used says why."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_examples import RATE, noise

from stagewise.datasets.audio import READ_BLOCK, Header, Reader, is_silent, probe, read_samples
from stagewise.datasets.containers import examine
from stagewise.errors import DataError

LENGTH = 150_000  # more than two blocks of the decoder that reads from the beginning

FORMATS = [
    ("flac", "FLAC", "PCM_16"),
    ("flac", "FLAC", "PCM_24"),
    ("wav", "WAV", "PCM_16"),
    ("wav", "WAV", "FLOAT"),
    ("wav", "WAV", "ULAW"),
    ("wav", "WAV", "IMA_ADPCM"),
    ("wav", "WAV", "GSM610"),
    ("ogg", "OGG", "VORBIS"),
    ("ogg", "OGG", "OPUS"),
    ("mp3", "MP3", "MPEG_LAYER_III"),
]


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    return noise(0, LENGTH)


def write(folder: Path, signal: np.ndarray, suffix: str, container: str, subtype: str, **options: object) -> str:
    path = folder / f"{subtype}.{suffix}"
    soundfile.write(path, signal, RATE, format=container, subtype=subtype, **options)
    return str(path)


@pytest.mark.parametrize(("suffix", "container", "subtype"), FORMATS)
def test_every_slice_is_the_slice_of_the_whole(tmp_path, signal, suffix, container, subtype):
    path = write(tmp_path, signal, suffix, container, subtype)
    header = probe(path)
    assert isinstance(header, Header)
    assert (header.rate, header.channels, header.size) == (RATE, 1, Path(path).stat().st_size)
    whole = read_samples(path, 0, header.samples)
    assert whole.dtype == np.float32
    assert whole.shape == (header.samples, 1)
    reference, _ = soundfile.read(path, dtype="float32", always_2d=True)
    assert len(reference) == header.samples
    np.testing.assert_allclose(whole, reference, atol=1e-6)  # MP3's decoder is not bit-equal after a seek
    generator = np.random.default_rng(1)
    edges = [0, 1, 65_535, 65_536, 65_537, header.samples - 1, header.samples]
    for _ in range(12):
        start, stop = sorted(generator.choice([*edges, *generator.integers(0, header.samples, 4)], 2))
        np.testing.assert_array_equal(read_samples(path, int(start), int(stop)), whole[start:stop])


@pytest.mark.parametrize(("suffix", "container", "subtype"), FORMATS)
def test_a_file_held_open_gives_the_same_slices_in_any_order(tmp_path, signal, suffix, container, subtype):
    path = write(tmp_path, signal, suffix, container, subtype)
    whole = read_samples(path, 0, LENGTH)
    random = np.random.default_rng(3)
    starts = [
        *range(0, LENGTH, 9_000),
        *random.integers(0, LENGTH, 8).tolist(),
        2 * READ_BLOCK,
        READ_BLOCK,
        READ_BLOCK - 1,
    ]
    with closing(Reader(path)) as reader:
        for start in starts:
            stop = min(LENGTH, start + int(random.integers(1, 20_000)))
            np.testing.assert_array_equal(reader.read(start, stop), whole[start:stop])


@pytest.mark.parametrize("mode", ["CONSTANT", "AVERAGE", "VARIABLE"])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_mp3_lengths_are_what_is_delivered(tmp_path, signal, mode, rate):
    path = tmp_path / "a.mp3"
    soundfile.write(path, signal, rate, bitrate_mode=mode, compression_level=0.5)
    header = probe(str(path))
    assert isinstance(header, Header)
    assert header.samples == LENGTH
    assert len(read_samples(str(path), 0, LENGTH)) == LENGTH


def test_channels_are_kept(tmp_path):
    stereo = noise(3, 1000, channels=2)
    path = write(tmp_path, stereo, "wav", "WAV", "FLOAT")
    np.testing.assert_array_equal(read_samples(path, 100, 300), stereo[100:300])


def cut(path: Path, source: str, keep: float) -> None:
    data = Path(source).read_bytes()
    path.write_bytes(data[: int(keep * len(data))])


def test_bad_files_say_why(tmp_path, signal):
    flac = write(tmp_path, signal, "flac", "FLAC", "PCM_16")
    mp3 = write(tmp_path, signal, "mp3", "MP3", "MPEG_LAYER_III")
    (tmp_path / "empty.flac").touch()
    (tmp_path / "text.flac").write_text("these are words, not samples\n" * 100)
    cut(tmp_path / "half.flac", flac, 0.5)
    cut(tmp_path / "almost.flac", flac, 0.9999)
    cut(tmp_path / "half.mp3", mp3, 0.5)
    soundfile.write(tmp_path / "none.wav", signal[:0], RATE)
    unknown = bytearray(Path(flac).read_bytes())
    unknown[21] &= 0xF0  # STREAMINFO: the 36 bits of the number of samples
    unknown[22:26] = b"\0\0\0\0"
    (tmp_path / "unknown.flac").write_bytes(unknown)
    (tmp_path / "folder.flac").mkdir()
    os.mkfifo(tmp_path / "pipe.flac")
    reasons = {
        "empty.flac": "the file is empty",
        "text.flac": "it is no FLAC, WAV, OGG, MP3, AIFF, CAF or AU file: convert it to one",
        "half.flac": "its last frame is not the one that its header says: the file is cut short, damaged, or joined",
        "almost.flac": "its last frame is not the one that its header says: the file is cut short, damaged, or joined",
        "half.mp3": "it ends before its header says: the file is cut short or damaged",
        "none.wav": "the file holds no samples",
        "unknown.flac": "does not say how long it is: encode it again",
        "folder.flac": "it is not a regular file",
        "pipe.flac": "it is not a regular file",
        "missing.flac": "No such file or directory",
    }
    for name, reason in reasons.items():
        assert reason in str(probe(str(tmp_path / name))), name


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_says_so(tmp_path, signal):
    path = write(tmp_path, signal, "flac", "FLAC", "PCM_16")
    Path(path).chmod(0)
    assert probe(path) == "Permission denied"


def test_names_of_every_kind(tmp_path):
    for name in ("with space.flac", "émoji 🎺.flac", "x" * 250 + ".flac"):
        soundfile.write(tmp_path / name, noise(1, 500), RATE)
        assert isinstance(probe(str(tmp_path / name)), Header)
        assert read_samples(str(tmp_path / name), 10, 20).shape == (10, 1)


def test_damage_inside_is_found_when_it_is_read(tmp_path, signal):
    path = write(tmp_path, signal, "flac", "FLAC", "PCM_16")
    data = bytearray(Path(path).read_bytes())
    data[len(data) // 2] ^= 0x55
    Path(path).write_bytes(data)
    with pytest.raises(DataError, match=r"cannot read .*PCM_16.flac: the decoder says: .*Replace the file or take"):
        read_samples(path, 0, LENGTH)


def test_a_file_that_shrank_or_vanished(tmp_path, signal):
    path = write(tmp_path, signal[:1000], "wav", "WAV", "PCM_16")
    with pytest.raises(DataError, match="ends before sample 2,000"):
        read_samples(path, 500, 2000)
    ogg = write(tmp_path, signal[:1000], "ogg", "OGG", "VORBIS")
    with pytest.raises(DataError, match="ends before sample 2,000"):
        read_samples(ogg, 500, 2000)
    Path(path).unlink()
    with pytest.raises(DataError, match="No such file or directory"):
        read_samples(path, 0, 10)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_numbers(tmp_path, value):
    samples = noise(5, 1000, channels=2)
    samples[700, 1] = value
    path = write(tmp_path, samples, "wav", "WAV", "FLOAT")
    read_samples(path, 0, 700)
    with pytest.raises(DataError, match=r"FLOAT.wav holds NaN or an infinity at sample 700\. Replace"):
        read_samples(path, 600, 900)


def test_threads_and_forks_read_the_same(tmp_path, signal):
    path = write(tmp_path, signal, "flac", "FLAC", "PCM_16")
    whole = read_samples(path, 0, LENGTH)
    starts = np.random.default_rng(2).integers(0, LENGTH - 1000, 64).tolist()
    with ThreadPoolExecutor(8) as pool:
        slices = list(pool.map(lambda start: read_samples(path, start, start + 1000), starts))
    for start, samples in zip(starts, slices, strict=True):
        np.testing.assert_array_equal(samples, whole[start : start + 1000])


def test_frames_are_counted_once_however_many_slices_are_read(tmp_path, signal, monkeypatch):
    path, counted = write(tmp_path, signal, "mp3", "MP3", "MPEG_LAYER_III"), []
    monkeypatch.setattr("stagewise.datasets.audio.examine", lambda path: counted.append(path) or examine(path))
    for start in (0, 1000, 2000):
        read_samples(path, start, start + 10)
    assert counted == [path]
    write(tmp_path, signal[:100_000], "mp3", "MP3", "MPEG_LAYER_III")
    read_samples(path, 0, 10)
    assert counted == [path, path]  # another file


@pytest.mark.parametrize(("sign", "silent"), [(-1, True), (1, False)])
def test_channels_in_opposite_phase_are_silence(tmp_path, sign, silent):
    samples = np.random.default_rng(0).normal(0, 0.1, 4000)
    soundfile.write(tmp_path / "a.wav", np.stack([samples, sign * samples], 1), RATE, subtype="FLOAT")
    assert is_silent(str(tmp_path / "a.wav")) == silent
