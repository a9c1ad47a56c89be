"""Files that cannot be used stop the run with their paths, or are skipped and counted."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from audio_examples import RATE, noise

from stagewise.datasets.audio_folder import AudioFolder
from stagewise.errors import ConfigError, DataError


def many(folder, count):
    for number in range(count):
        soundfile.write(folder / f"{number:04d}.wav", noise(number, 500), RATE)


def test_all_bad_files_are_listed_at_once(tmp_path):
    many(tmp_path, 4)
    (tmp_path / "a.flac").touch()
    (tmp_path / "b.flac").write_text("text")
    soundfile.write(tmp_path / "c.flac", noise(1, 500), 22_050)
    soundfile.write(tmp_path / "d.flac", noise(1, 500, channels=2), RATE)
    with pytest.raises(DataError) as error:
        AudioFolder(root=str(tmp_path))
    assert str(error.value).splitlines() == [
        "4 of 8 audio files cannot be used:",
        f"  {tmp_path}/a.flac: the file is empty",
        f"  {tmp_path}/b.flac: it is no FLAC, WAV, OGG, MP3, AIFF, CAF or AU file: convert it to one",
        f"  {tmp_path}/c.flac: 22,050 Hz where 16,000 Hz is expected: set data.resample = true to convert it",
        f"  {tmp_path}/d.flac: 2 channels where 1 is expected: set data.mono = true to average them",
        'Repair them or take them away, or set data.bad_items = "skip" to leave them out.',
    ]


def test_a_long_list_is_cut(tmp_path):
    for number in range(14):
        (tmp_path / f"{number}.flac").touch()
    with pytest.raises(DataError, match=r"(?s)14 of 14 audio files.*… and 4 more\nRepair") as error:
        AudioFolder(root=str(tmp_path))
    assert len(str(error.value).splitlines()) == 13


def test_one_in_a_hundred_is_skipped_and_counted(tmp_path):
    many(tmp_path, 99)
    (tmp_path / "0042.flac").write_text("text")
    data = AudioFolder(root=str(tmp_path), bad_items="skip")
    assert len(data) == 99
    (bad,) = data.bad
    assert (bad.key, bad.path) == ("0042.flac", f"{tmp_path}/0042.flac")
    assert bad.reason == "it is no FLAC, WAV, OGG, MP3, AIFF, CAF or AU file: convert it to one"
    assert AudioFolder(root=str(tmp_path), bad_items="skip").fingerprint() == data.fingerprint()
    (tmp_path / "0042.flac").unlink()
    assert AudioFolder(root=str(tmp_path)).fingerprint() == data.fingerprint()


def test_more_than_one_in_a_hundred_is_an_error(tmp_path):
    many(tmp_path, 98)
    (tmp_path / "0042.flac").write_text("text")
    with pytest.raises(DataError, match=r"(?s)1 of 99 audio files.*more than the 1% that data.bad_items = \"skip\""):
        AudioFolder(root=str(tmp_path), bad_items="skip")


@pytest.mark.parametrize(
    ("policy", "passes", "words"),
    [
        (0.5, True, ""),
        (2, True, ""),
        (0.4, False, "more than the 40% that data.bad_items = 0.4 leaves out: .* or set data.bad_items = 2 to"),
        (1, False, "more than the 1 that data.bad_items = 1 leaves out"),
    ],
)
def test_a_share_or_a_number_of_files_may_be_left_out(tmp_path, policy, passes, words):
    many(tmp_path, 2)  # of four
    for name in ("a.flac", "b.flac"):
        (tmp_path / name).write_text("text")
    if passes:
        assert [len(AudioFolder(root=str(tmp_path), bad_items=policy).bad)] == [2]
    else:
        with pytest.raises(DataError, match=words):
            AudioFolder(root=str(tmp_path), bad_items=policy)


@pytest.mark.parametrize("policy", [0, -1, 0.0, 1.0, 1.5, True, "some", None])
def test_what_is_no_number_of_files(tmp_path, policy):
    many(tmp_path, 1)
    words = rf'data.bad_items is {policy!r}: set it to "error" or "skip", to the share of files'
    with pytest.raises(ConfigError, match=words):
        AudioFolder(root=str(tmp_path), bad_items=policy)


def test_resample_and_mono_convert(tmp_path):
    stereo = noise(1, 30_000, channels=2)
    soundfile.write(tmp_path / "a.wav", stereo, 22_050, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", noise(2, 500), RATE, subtype="FLOAT")
    data = AudioFolder(root=str(tmp_path), resample=True, mono=True, mean=0.0, std=1.0)
    expected = torchaudio.functional.resample(torch.from_numpy(stereo.mean(axis=1)).double(), 22_050, RATE).numpy()
    assert data.lengths.tolist() == [len(expected), 500]
    whole = data.read(0, 0, len(expected))
    np.testing.assert_allclose(whole[0], expected, atol=1e-6)
    np.testing.assert_array_equal(data.read(0, 12_345, 12_999), whole[:, 12_345:12_999])
    np.testing.assert_array_equal(data.read(1, 0, 500)[0], noise(2, 500)[:, 0])


def test_rates_that_do_not_fit_together(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 500), 44_099)
    with pytest.raises(DataError, match="44,099 Hz cannot be converted to 16,000 Hz in reasonable memory"):
        AudioFolder(root=str(tmp_path), resample=True)


def test_another_rate_can_be_asked_for(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(1, 500), 8_000)
    data = AudioFolder(root=str(tmp_path), sample_rate=8_000)
    assert data.sample_rate == 8_000
    assert data.lengths.tolist() == [500]
    with pytest.raises(ConfigError, match=r"data.sample_rate is 0: set it to a whole number above 0"):
        AudioFolder(root=str(tmp_path), sample_rate=0)


def test_damage_after_the_scan_names_the_file(tmp_path):
    many(tmp_path, 1)
    data = AudioFolder(root=str(tmp_path))
    (tmp_path / "0000.wav").write_text("text")
    with pytest.raises(DataError, match=r"cannot read .*0000.wav: the decoder says: Format not recognised\. Replace"):
        data.read(0, 0, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mono": "no"}, r"data.mono is 'no': set it to true or false"),
        ({"resample": 1}, r"data.resample is 1: set it to true or false"),
        ({"sample_rate": 16_000.5}, r"data.sample_rate is 16000.5: set it to a whole number above 0"),
    ],
)
def test_what_would_be_taken_for_true_or_for_a_rate_is_refused(tmp_path, arguments, message):
    many(tmp_path, 1)
    with pytest.raises(ConfigError, match=message):
        AudioFolder(root=str(tmp_path), **arguments)
