"""What of a folder is no item is said: other suffixes, hidden files, other programs' folders, twins."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import soundfile
from audio_examples import RATE
from image_examples import picture, save
from image_folder_examples import SMALL
from PIL import Image

from stagewise.datasets import audio_files
from stagewise.datasets.audio_files import find_twins
from stagewise.datasets.audio_folder import AudioFolder
from stagewise.datasets.files import find, find_files
from stagewise.datasets.image_folder import ImageFolder
from stagewise.datasets.images import find_twins as find_images
from stagewise.datasets.labels import frame_count
from stagewise.datasets.librispeech import LibriSpeech
from stagewise.errors import DataError
from stagewise.frozen.given_files import Given
from stagewise.starting.survey import look


def noise(seed, samples):
    return (0.1 * np.random.default_rng(seed).standard_normal((samples, 1))).astype(np.float32)


def sound(path, seed=0, samples=8000, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(seed, samples), rate, **options)
    return path


def test_every_suffix_that_is_decoded_is_taken(tmp_path):
    kinds = {"flac": "FLAC", "wav": "WAV", "wave": "WAV", "w64": "W64", "rf64": "RF64", "aif": "AIFF", "aiff": "AIFF"}
    kinds |= {"caf": "CAF", "au": "AU", "ogg": "OGG", "oga": "OGG", "mp3": "MP3", "AIFC": "AIFF"}
    for number, (suffix, container) in enumerate(kinds.items()):
        sound(tmp_path / f"{number}.{suffix}", number, format=container)
    sound(tmp_path / "o.opus", 99, format="OGG", subtype="OPUS")
    data = AudioFolder(root=str(tmp_path))
    assert len(data) == len(kinds) + 1
    assert set(data.lengths.tolist()) == {8000}
    assert data.notes == []
    for suffix in ("jpg", "jpeg", "jpe", "jfif"):
        save(tmp_path / f"{suffix}.{suffix}", picture(0), format="JPEG")
    assert len(ImageFolder(root=str(tmp_path), **SMALL)) == 4


def test_what_is_left_out_is_counted(tmp_path):
    sound(tmp_path / "a.wav")
    for name in ("b.m4a", "c.M4A", "d.webm", "e", "f.csv", "g.txt", "Thumbs.db", ".DS_Store", "._a.wav", ".b.flac"):
        (tmp_path / name).touch()
    for folder in ("@eaDir", "__MACOSX", "sub/@eaDir", ".thumbnails"):
        sound(tmp_path / folder / "x.wav")
    data = AudioFolder(root=str(tmp_path), labels={"class": "folder"})
    assert list(data.keys) == ["a.wav"]
    assert data.label_classes("class") == []
    notes = [
        "left out by their suffix: 2 .m4a, 1 without one, 1 .webm",
        "left out: 2 files whose names begin with a dot",
        "left out: folders whose names begin with a dot: .thumbnails",
        "folders of other programs, which were not looked into: 2 @eaDir, 1 __MACOSX",
    ]
    assert data.notes == notes
    assert find(tmp_path).notes == notes
    given = Given.of([tmp_path], (".wav",), "audio")
    assert (given.keys, given.bad) == ([f"{tmp_path}/a.wav"], [])
    assert given.notes[0] == f"{tmp_path}: left out by their suffix: 2 .m4a, 1 without one, 1 .webm"
    other = find_files(tmp_path, (".wav", ".webm"), "audio", "data.root")
    assert other.notes([".m4a"])[0] == "left out by their suffix: 1 without one"


def test_many_other_suffixes(tmp_path):
    sound(tmp_path / "a.wav")
    for number in range(9):
        (tmp_path / f"a.x{number}").touch()
    assert AudioFolder(root=str(tmp_path)).notes[0].endswith("1 .x5, and 3 others")


def test_a_folder_without_a_file_of_the_kind_names_what_is_there(tmp_path):
    (tmp_path / "a.m4a").touch()
    with pytest.raises(DataError, match=r"no audio files .* below .*; left out by their suffix: 1 .m4a: type --set"):
        AudioFolder(root=str(tmp_path))


def test_images_tell_what_is_left_out_of_each_folder(tmp_path):
    save(tmp_path / "train" / "a" / "a.png", picture(0))
    save(tmp_path / "test" / "a" / "a.png", picture(1))
    save(tmp_path / "test" / "a" / "a.gif", picture(1))
    data = ImageFolder(root=str(tmp_path / "train"), test=str(tmp_path / "test"), **SMALL)
    assert data.notes == [
        "data.test: left out by their suffix: 1 .gif",
        "2 images in colour, taken in grey (data.grayscale = false keeps it): a/a.png, test//a/a.png",
    ]


def test_twins_are_one_item(tmp_path):
    for name in ("a", "b"):
        sound(tmp_path / f"{name}.wav", ord(name))
        sound(tmp_path / "flac" / f"{name}.flac", ord(name))
    sound(tmp_path / "a.mp3", ord("a"))
    sound(tmp_path / "b.ogg", ord("b"))
    sound(tmp_path / "c.wav", 3)
    sound(tmp_path / "c.flac", 4)  # of the same length, and another recording
    sound(tmp_path / "d.wav", 5)
    sound(tmp_path / "d.flac", 5, 9900)  # longer
    sound(tmp_path / "e.wav", 6)
    sound(tmp_path / "sub" / "e.wav", 6)  # one suffix: files are called alike in other folders
    data = AudioFolder(root=str(tmp_path))
    keys = ["c.flac", "c.wav", "d.flac", "d.wav", "e.wav", "flac/a.flac", "flac/b.flac", "sub/e.wav"]
    assert list(data.keys) == keys
    assert data.notes == [
        "left out, since another file of the same name holds the same: 4 files, such as a.mp3 beside flac/a.flac"
    ]
    found = find(tmp_path)
    assert found.names["audio"] == keys
    assert found.notes == data.notes
    assert found.twins["audio"] == {
        "a.wav": "flac/a.flac",
        "a.mp3": "flac/a.flac",
        "b.wav": "flac/b.flac",
        "b.ogg": "flac/b.flac",
    }


def test_a_noisy_copy_in_another_folder_is_an_item_of_its_own_and_said(tmp_path):
    rng = np.random.default_rng(0)
    for name in "xyz":
        samples = rng.normal(0, 0.1, 8000)
        for folder, kind, noise in (("clean", "wav", 0), ("noisy", "flac", 0.01), ("same", "flac", 0)):
            path = tmp_path / folder / f"{name}.{kind}"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, samples + rng.normal(0, noise, 8000), 16_000)
    data = AudioFolder(root=str(tmp_path), labels={"class": "folder"})
    assert [key for key in data.keys if key.startswith("clean")] == []  # their samples are those of `same`
    assert len(data) == 6
    shutil.rmtree(tmp_path / "same")
    data = AudioFolder(root=str(tmp_path), labels={"class": "folder"})
    assert len(data) == 6
    (note,) = data.notes
    assert note.startswith("3 files sound like another of the same name in another folder, such as clean/x.wav and ")
    assert "take one of the folders away" in note


def test_tables_and_dotted_folders_below_are_named(tmp_path):
    sound(tmp_path / "a.wav")
    for name in ("meta/species.csv", "meta/notes.txt", ".old/b.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert find(tmp_path).notes == [
        "left out: folders whose names begin with a dot: .old",
        "not read: tables in folders below: meta/species.csv",
    ]


def test_many_files_of_one_name_are_compared_with_those_of_the_folders_most_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(audio_files, "MOST", 3)
    for number in range(20):
        for kind in ("wav", "flac"):
            sound(tmp_path / kind / str(number) / f"a.{kind}", number)
    compared, same = [], audio_files._same
    monkeypatch.setattr(audio_files, "_same", lambda *given: compared.append(given) or same(*given))
    names = [f"{kind}/{number}/a.{kind}" for kind in ("wav", "flac") for number in range(20)]
    twins = find_twins(tmp_path, names)
    assert twins == {f"wav/{number}/a.wav": f"flac/{number}/a.flac" for number in range(20)}
    assert len(compared) == 20


@pytest.mark.parametrize("suffix", ["bmp", "jpg"])
def test_an_image_that_was_changed_in_a_place_is_another(tmp_path, suffix):
    small = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    photo = np.asarray(Image.fromarray(small).resize((120, 80)))[:, :, None].copy()
    save(tmp_path / "a.png", photo)
    photo[20:30, 40:50] = 255 - photo[20:30, 40:50]
    save(tmp_path / f"a.{suffix}", photo)
    assert find_images(tmp_path, ["a.png", f"a.{suffix}"]) == {}


def test_images_that_are_there_twice_are_one_item(tmp_path):
    small = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
    photo = np.asarray(Image.fromarray(small).resize((120, 80)))[:, :, None]
    for name in ("a/x.png", "a/x.jpg", "a/y.jpg", "b/y.png"):  # those of other folders are others
        save(tmp_path / name, photo)
    save(tmp_path / "a" / "m.jpg", photo)
    save(tmp_path / "a" / "m.png", (255 * (photo > 200)).astype(np.uint8))  # a mask
    (tmp_path / "a" / "d.png").write_bytes((tmp_path / "a" / "x.png").read_bytes()[:-900])
    save(tmp_path / "a" / "d.jpg", photo)
    (tmp_path / "kind.csv").write_text("file,kind\na/x.jpg,p\nb/y.png,q\n")
    arguments = SMALL | {"bad_items": 1, "labels": {"kind": str(tmp_path / "kind.csv")}}
    data = ImageFolder(root=str(tmp_path), **arguments)
    keys = ["a/d.jpg", "a/m.jpg", "a/m.png", "a/x.png", "a/y.jpg", "b/y.png"]
    assert list(data.keys) == keys
    words = "left out, since another file of the same name holds the same: 1 file, such as a/x.jpg beside a/x.png"
    assert words in data.notes
    assert data.item_labels("kind").tolist() == [-1, -1, -1, 0, -1, 1]
    found = find(tmp_path)
    assert (found.names["images"], found.twins["images"]) == (["a/d.jpg", "a/d.png", *keys[1:]], {"a/x.jpg": "a/x.png"})
    (tmp_path / "train.txt").write_text("a/x.jpg\na/d.jpg\n")
    (tmp_path / "test.txt").write_text("b/y\n")
    splits = {part: str(tmp_path / f"{part}.txt") for part in ("train", "test")}
    listed = ImageFolder(root=str(tmp_path), splits=splits, **arguments)
    assert (list(listed.keys), listed.split("test").tolist()) == (["a/d.jpg", "a/x.png", "b/y.png"], [2])


def test_the_same_bytes_under_other_names_are_said_by_data_check(tmp_path):
    for name, seed in (("train/a.wav", 1), ("test/b.wav", 1), ("c.wav", 2)):
        sound(tmp_path / name, seed)
    for name, seed in (("train/a.png", 1), ("test/b.png", 1), ("test/c.png", 1), ("d.png", 2)):
        save(tmp_path / name, picture(seed))
    found, words = find(tmp_path), "of another, byte for byte, such as"
    (note,) = look(found, "audio", inside=True).notes
    assert note.startswith(f"warning: 1 file is a copy {words} train/a.wav of test/b.wav: if one is trained on")
    (note,) = look(found, "images", inside=True).notes
    assert note.startswith(f"warning: 2 files are copies {words} test/c.png of test/b.png: if one is trained on")
    assert look(found, "images").notes == []


def test_a_twin_at_another_rate(tmp_path):
    slow = noise(1, 16_000)
    fast = np.interp(np.arange(48_000) / 3, np.arange(16_000), slow[:, 0]).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", fast, 48_000)
    soundfile.write(tmp_path / "a.flac", slow, 16_000)
    assert find_twins(tmp_path, ["a.flac", "a.wav"]) == {"a.wav": "a.flac"}
    (tmp_path / "a.wav").write_text("no sound")
    assert find_twins(tmp_path, ["a.flac", "a.wav"]) == {}  # it is named as a bad file


def test_silence_in_the_middle_makes_no_twins(tmp_path):
    for name, seed in (("cat/0.flac", 1), ("cat/0.wav", 1), ("dog/0.wav", 2)):
        samples = noise(seed, 3 * RATE)
        samples[RATE:] = 0
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, samples, RATE, subtype="PCM_16")
    assert find_twins(tmp_path, ["cat/0.flac", "cat/0.wav", "dog/0.wav"]) == {"cat/0.wav": "cat/0.flac"}
    for name, value in (("a.flac", 0.25), ("a.wav", 0.5)):
        soundfile.write(tmp_path / name, np.full(1, value), RATE, subtype="PCM_16")
    assert find_twins(tmp_path, ["a.flac", "a.wav"]) == {}


def test_lists_and_tables_may_name_either_twin(tmp_path):
    for number, name in enumerate("abcdef"):
        sound(tmp_path / "x" / f"{name}.flac", number)
        sound(tmp_path / "x" / f"{name}.wav", number)
    (tmp_path / "train.txt").write_text("x/a.wav\nx/b.flac\nx/c\n")
    (tmp_path / "test.txt").write_text("d.wav\ne\n")
    (tmp_path / "kind.csv").write_text("file,kind\nx/a.wav,p\nx/a.flac,p\nb.wav,p\nx/d.flac,q\ne.wav,q\n")
    data = AudioFolder(
        root=str(tmp_path),
        splits={"train": str(tmp_path / "train.txt"), "test": str(tmp_path / "test.txt")},
        labels={"kind": str(tmp_path / "kind.csv")},
    )
    assert list(data.keys) == [f"x/{name}.flac" for name in "abcde"]
    assert data.split("test").tolist() == [3, 4]
    assert data.item_labels("kind").tolist() == [0, 0, -1, 1, 1]
    (tmp_path / "kind.csv").write_text("file,kind\nx/a.wav,p\nx/a.flac,q\n")
    with pytest.raises(DataError, match=r"kind.csv:3: x/a.flac is here a second time: delete one"):
        AudioFolder(root=str(tmp_path), labels={"kind": str(tmp_path / "kind.csv")})


def test_a_phone_file_may_name_both_twins_alike(tmp_path):
    for name in ("a.flac", "a.wav", "b.wav"):
        sound(tmp_path / "x" / name, ord(name[0]))
    needed = frame_count(AudioFolder(root=str(tmp_path)).lengths[0])
    line, other = (" ".join([number] * needed) for number in "12")
    phones = tmp_path / "phones.txt"
    phones.write_text(f"x/a.flac {line}\nx/a.wav {line}\nx/b.wav {other}\n")
    data = AudioFolder(root=str(tmp_path), phones=str(phones))
    assert [data.frame_labels("phones", item).classes.tolist() for item in (0, 1)] == [[1] * needed, [2] * needed]
    for text in (f"x/a.flac {line}\nx/a.wav {other}\n", f"x/b.wav {line}\nx/b.wav {line}\n"):
        phones.write_text(text)
        with pytest.raises(DataError, match=r"phones.txt:2: x/[ab].wav is here a second time: delete one of the two"):
            AudioFolder(root=str(tmp_path), phones=str(phones))


def test_librispeech_with_wavs_beside_or_alone(tmp_path):
    for speaker in ("11", "12"):
        for number in range(3):
            name = f"{speaker}/7/{speaker}-7-000{number}"
            sound(tmp_path / f"{name}.wav", number)
            if speaker == "11":
                sound(tmp_path / f"{name}.flac", number)
    shutil.copy(tmp_path / "11/7/11-7-0000.wav", tmp_path / "11/7/take two.wav")
    data = LibriSpeech(root=str(tmp_path), subset=None)
    assert list(data.keys) == [f"{speaker}-7-000{number}" for speaker in ("11", "12") for number in range(3)]
    assert data.read(4, 0, 100).shape == (1, 100)
    assert data.notes == [
        "left out, since another file of the same name is taken: 3 files, such as those of 11-7-0000 beside .flac",
        "left out, as no utterance is called so: 1 audio file, such as 11/7/take two.wav",
    ]
    assert data.label_classes("speaker") == ["11", "12"]


def test_files_that_no_list_names_are_counted(tmp_path):
    for number in range(5):
        sound(tmp_path / "in" / f"{number}.wav", number)
        sound(tmp_path / "libri" / "1" / "2" / f"1-2-000{number}.flac", number)
        save(tmp_path / "images" / "a" / f"{number}.png", picture(number))
    for folder, names in (
        ("in", "0123"),
        ("libri", ["1-2-000" + n for n in "0123"]),
        ("images", ["a/" + n for n in "0123"]),
    ):
        for part, some in (("train", names[:2]), ("test", names[2:3])):
            (tmp_path / f"{folder}-{part}.txt").write_text("\n".join(some))
    splits = {
        f: {part: str(tmp_path / f"{f}-{part}.txt") for part in ("train", "test")} for f in ("in", "libri", "images")
    }
    found = [
        AudioFolder(root=str(tmp_path / "in"), splits=splits["in"]),
        LibriSpeech(root=str(tmp_path / "libri"), splits=splits["libri"]),
        ImageFolder(root=str(tmp_path / "images"), splits=splits["images"], **SMALL),
    ]
    words = "left out, as neither list of data.splits names them: 2 files, such as "
    assert [data.notes[0] for data in found] == [words + name for name in ("3.wav", "1-2-0003", "a/3.png")]
    (tmp_path / "in-test.txt").write_text("2\n3\n4")
    assert AudioFolder(root=str(tmp_path / "in"), splits=splits["in"]).notes == []


def test_a_share_for_tests_beside_what_decides_them_is_said(tmp_path):
    for number in range(4):
        save(tmp_path / "in" / "train" / "ab"[number % 2] / f"{number}.png", picture(number))
        save(tmp_path / "in" / "test" / "ab"[number % 2] / f"{number}.png", picture(number + 9))
        sound(tmp_path / "in" / f"{number}.wav", number)
    for part in ("train", "test"):
        (tmp_path / f"{part}.txt").write_text("0\n1\n" if part == "train" else "2\n3\n")
    splits = {part: str(tmp_path / f"{part}.txt") for part in ("train", "test")}
    data = AudioFolder(root=str(tmp_path / "in"), splits=splits, test_fraction=0.5)
    assert "data.test_fraction = 0.5 has no effect beside data.splits" in data.notes
    folders = {"root": str(tmp_path / "in" / "train"), "test": str(tmp_path / "in" / "test")}
    data = ImageFolder(**folders, **SMALL, test_fraction=0.5)
    assert "data.test_fraction = 0.5 has no effect beside data.test" in data.notes
    assert not any("test_fraction" in note for note in ImageFolder(**folders, **SMALL).notes)
