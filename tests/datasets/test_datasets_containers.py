"""What an audio file holds is counted, not believed: cut, joined and unclosed files of every container."""

from __future__ import annotations

import io
import os
import struct
import sys

import numpy as np
import pytest
import soundfile
from audio_examples import noise

from stagewise.datasets.audio import Header, probe, read_samples
from stagewise.datasets.containers import CUT, JOINED, UNCLOSED, UNKNOWN

RATE, SAMPLES = 16_000, 20_000
KINDS = {
    "wav": ("WAV", "PCM_16"),
    "extensible.wav": ("WAVEX", "PCM_24"),
    "big-endian.wav": ("WAV", "PCM_16", "BIG"),
    "adpcm.wav": ("WAV", "IMA_ADPCM"),
    "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "FLOAT"),
    "aiff": ("AIFF", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "alac.caf": ("CAF", "ALAC_16"),
    "au": ("AU", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}


def encoded(kind: str, samples: np.ndarray, rate: int = RATE, **options: object) -> bytes:
    container, subtype, *endian = KINDS[kind]
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, subtype, *endian, format=container, **options)
    return buffer.getvalue()


@pytest.fixture(name="said")
def said_of(tmp_path):
    """Say what is found of some bytes: how many samples, or what is wrong."""

    def said(content: bytes) -> int | str:
        path = tmp_path / "file"
        path.write_bytes(content)
        found = probe(str(path))
        if isinstance(found, str):
            return found
        assert read_samples(str(path), 0, found.samples).shape == (found.samples, 1)
        return found.samples

    return said


@pytest.fixture(scope="module", name="both")
def two_recordings():
    one, other = noise(0, SAMPLES), noise(1, 2 * SAMPLES)
    return {kind: (encoded(kind, one), encoded(kind, other)) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_whole_is_taken_and_what_is_cut_or_joined_is_not(both, said, kind):
    whole, other = both[kind]
    assert said(whole) == soundfile.info(io.BytesIO(whole)).frames >= SAMPLES  # ADPCM has blocks
    for keep in (0.03, 0.3, 0.5, 0.9, 0.999):
        assert isinstance(said(whole[: int(keep * len(whole))]), str), keep
    assert isinstance(said(whole[:-1]), str)
    for joined in (whole + other, other + whole, whole + whole):
        assert isinstance(said(joined), str)
    assert isinstance(said(whole + b"\1\2\3\4" * 5000), str)


@pytest.mark.parametrize("kind", ["wav", "rf64", "w64", "aiff", "caf", "au", "flac", "ogg", "opus", "mp3"])
def test_the_words(both, said, kind):
    whole, other = both[kind]
    assert said(whole + other).endswith(JOINED)
    if kind != "flac":  # of whose frames the last one is missing
        assert said(whole[: len(whole) // 2]) == CUT


@pytest.mark.parametrize("kind", ["wav", "rf64", "w64", "aiff", "caf", "au", "flac", "ogg", "opus", "mp3"])
@pytest.mark.parametrize("tag", [b"TAG".ljust(128), b"\0" * 5000, b"TAG".ljust(128) + b"\0" * 20], ids=len)
def test_what_players_write_behind_a_recording_harms_nothing(both, said, kind, tag):
    expected = f"{len(tag):,} bytes follow the samples that its header counts: {UNCLOSED}" if kind == "w64" else SAMPLES
    assert said(both[kind][0] + tag) == expected


def wave(size: int, riff: int | None = None, behind: bytes = b"") -> bytes:
    data = encoded("wav", noise(0, SAMPLES))[44:]
    form = struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    riff = 36 + len(data) if riff is None else riff
    return b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + form + b"data" + struct.pack("<I", size) + data + behind


BYTES = 2 * SAMPLES
SIZES = {
    "as it is": (wave(BYTES), SAMPLES),
    "the header is counted": (wave(BYTES + 44), SAMPLES),
    "a part of the header is counted": (wave(BYTES + 36), SAMPLES),
    "a padding byte is counted": (wave(BYTES + 1), SAMPLES),
    "a pipe": (wave(2**32 - 1), SAMPLES),
    "a pipe of SoX": (wave(2**31 - 1 - 36), SAMPLES),
    "closed badly": (wave(0, 36), SAMPLES),
    "closed badly, all sizes 0": (wave(0, 0), SAMPLES),
    "too large": (wave(BYTES + 1000), CUT),
    "twice as large": (wave(2 * BYTES), CUT),
    "too small": (wave(BYTES - 1000), f"1,000 bytes follow the samples that its header counts: {UNCLOSED}"),
    "half": (wave(BYTES // 2), f"20,000 bytes follow the samples that its header counts: {UNCLOSED}"),
    "a list behind": (wave(BYTES, behind=b"LIST" + struct.pack("<I", 2000) + b"x" * 2000), SAMPLES),
    "a cut list behind": (wave(BYTES, behind=b"LIST" + struct.pack("<I", 9000) + b"x" * 2000), SAMPLES),
    "an own chunk behind": (wave(BYTES, behind=b"wamd" + struct.pack("<I", 2000) + b"x" * 2000), SAMPLES),
    "empty": (wave(0)[:44], "the file holds no samples"),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_that_are_wrong_in_every_direction(said, name):
    content, expected = SIZES[name]
    assert said(content) == expected


def test_a_recorder_that_died_keeps_every_sample(tmp_path):
    (tmp_path / "a.wav").write_bytes(wave(0, 36))
    (tmp_path / "b.wav").write_bytes(wave(BYTES))
    np.testing.assert_array_equal(*(read_samples(str(tmp_path / f"{name}.wav"), 7, 19_999) for name in "ab"))


def frames_of(content: bytes) -> list[tuple[int, int, int]]:
    """Place, bytes and samples of every MPEG layer III frame: an independent walk."""
    first = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    second = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    rates = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
    found, at = [], 0
    while at + 4 <= len(content):
        bits = int.from_bytes(content[at : at + 4], "big")
        version = bits >> 19 & 3
        kilobits, rate = (first if version == 3 else second)[bits >> 12 & 15], rates[version][bits >> 10 & 3]
        per_frame, samples = (144, 1152) if version == 3 else (72, 576)
        size = per_frame * kilobits * 1000 // rate + (bits >> 9 & 1)
        found.append((at, size, samples))
        at += size
    assert at == len(content)
    return found


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("rate", [44_100, 16_000, 8_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_without_a_length_is_as_long_as_its_frames(tmp_path, mode, rate, channels):
    samples = noise(2, 60_000, channels)
    samples[20_000:40_000] = 0  # few bits, many, few: a guess from the first frames is wrong
    content = encoded("mp3", samples, rate, bitrate_mode=mode, compression_level=0.5)
    path = tmp_path / "a.mp3"
    path.write_bytes(content)
    whole = read_samples(str(path), 0, 60_000)
    (_, size, each), *others = frames_of(content)
    for tag in (b"", b"ID3\4\0\0\0\0\x20\0" + bytes(4096)):
        path.write_bytes(tag + content[size:])
        header = probe(str(path))
        assert isinstance(header, Header)
        assert header.samples == each * len(others)
        found = read_samples(str(path), 0, header.samples)
        delay = 1105  # of LAME and of the decoder, which only the header that is gone tells of
        np.testing.assert_allclose(found[delay : delay + 60_000], whole, atol=1e-6)
        for start, stop in ((0, 5), (30_001, 30_100), (header.samples - 9, header.samples)):
            np.testing.assert_array_equal(read_samples(str(path), start, stop), found[start:stop])
    path.write_bytes(content[size:-10])
    assert probe(str(path)) == "its last frame is not whole: the file is cut short"


def test_mp3s_that_are_damaged_inside_or_joined(both, said):
    content = both["mp3"][0]
    frames = frames_of(content)
    bare, middle = content[frames[1][0] :], frames[20][0]
    each, count = frames[0][2], len(frames) - 1
    assert said(bare) == each * count
    assert (
        said(bare[:middle] + b"x" * 2000 + bare[middle:])
        == "2,000 bytes between its frames are none: the file is damaged"
    )
    assert said(bare + bare) == 2 * each * count  # no header is there to say otherwise
    assert said(content + bare[: frames[3][0]]) == f"its header counts {count} of {count + 3} frames: {JOINED}"
    assert said(content + bare) == f"its header counts {count} of {2 * count} frames: {JOINED}"
    assert said(bare + b"ID3\4\0\0\0\0\1\0" + bytes(128) + bare) == JOINED
    assert isinstance(said(bare + encoded("mp3", noise(0, SAMPLES), 44_100)), str)
    dropped = content.find(b"LAME", frames[0][0])
    harmed = content[: dropped + 21] + b"\xff\xff\xff" + content[dropped + 24 :]
    assert said(harmed) == "a decoder drops 8,190 of its 21,312 samples: its header is damaged"


def test_damage_to_any_page_of_an_ogg_is_found(said):
    content = encoded("ogg", noise(1, 20 * SAMPLES))
    for part in (0.4, 0.6, 0.9):
        harmed = bytearray(content)
        harmed[int(part * len(content))] ^= 1
        assert said(bytes(harmed)) == "a part of it is not what was written: the file is damaged"
    pages = [place for place in range(len(content)) if content[place : place + 4] == b"OggS"]
    assert len(pages) > 5
    assert said(content[: pages[3]] + content[pages[4] :]) == "a part of it is missing: the file is damaged"


def test_other_kinds_are_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(0, SAMPLES), RATE, format="VOC", subtype="PCM_16")
    assert probe(str(tmp_path / "a.wav")) == UNKNOWN


def test_what_a_decoder_prints_reaches_nobody(tmp_path, both, capfd):
    path = tmp_path / "a.mp3"
    path.write_bytes(b"".join(both["mp3"]))
    with soundfile.SoundFile(path):  # what it says if it is let
        os.write(2, b"|")
    assert isinstance(probe(str(path)), str)
    read_samples(str(path), 0, 100)
    os.write(2, b"|")
    print("heard", file=sys.stderr)
    alone, ours, rest = capfd.readouterr().err.split("|")
    assert "Warning: Xing stream size off" in alone
    assert (ours, rest) == ("", "heard\n")
