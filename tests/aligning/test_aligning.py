"""Phone labels of speech whose words are known: written, read back, and the same after any kill."""

import json
import re
import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile
import tiny
from click.testing import CliRunner
from small_files import png

import stagewise
from stagewise import durable
from stagewise.aligning import align as module
from stagewise.aligning.align import align, facts, items_file, words
from stagewise.aligning.aligner import PHONES, SOUNDS, Aligner, pronounce, read_dictionary, spell
from stagewise.aligning.work import find_transcripts, spare_transcripts, split_words
from stagewise.cli.data import data
from stagewise.cli.progress import under_way
from stagewise.datasets.audio_folder import AudioFolder
from stagewise.datasets.corpus import Request, Utterance, write_corpus
from stagewise.datasets.librispeech import LibriSpeech
from stagewise.datasets.synthetic_speech import sentence
from stagewise.errors import ConfigError, DataError, StagewiseError

TEXTS = {f"{voice}-1-{number:04d}": sentence(3, voice, number) for voice in (1, 2) for number in range(2)}
TEXTS["2-1-0001"] = "The zorblatt opened the heavy box."  # a word that no dictionary has


def silent(*_, **__):
    pass


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Four sentences of two voices in LibriSpeech's layout, with transcripts."""
    root = tmp_path_factory.mktemp("spoken") / "in"
    voices = {"1": "en-us", "2": "en-us+f4"}
    write_corpus(root, [Utterance(key, Request(TEXTS[key], voices[key[0]], 160, 50, 60)) for key in TEXTS], {})
    for speaker in voices:
        lines = [f"{key} {text.upper()}\n" for key, text in TEXTS.items() if key[0] == speaker]
        (root / speaker / "1" / f"{speaker}-1.trans.txt").write_text("".join(lines))
    return root


@pytest.fixture(scope="module")
def made(spoken, tmp_path_factory):
    """The label file of that, made without disturbance, and its lines."""
    file = tmp_path_factory.mktemp("made") / "phones.txt"
    return file, align(spoken, file, 1, silent)


def both(file):
    return file.read_bytes(), items_file(file).read_bytes()


def test_the_data_set_reads_the_labels_and_they_are_about_what_espeak_said(spoken, made):
    file, lines = made
    assert [line["key"] for line in lines] == sorted(TEXTS)
    read = LibriSpeech(str(spoken), subset=None, phones=str(file))
    exact = LibriSpeech(str(spoken), subset=None, phones=str(spoken / "phone_alignment.txt"))
    names = (spoken / "phones.txt").read_text().split()
    same = []
    for item in range(len(read)):
        found = read.frame_labels("phones", item).classes
        said = exact.frame_labels("phones", item).classes
        same += [
            PHONES[ours] == SOUNDS.get(names[theirs], names[theirs]) for ours, theirs in zip(found, said, strict=True)
        ]
    assert np.mean(same) > 0.6


def test_a_pipeline_trains_on_them_and_probes_them(spoken, made, tmp_path, no_peaks_here):
    file = tiny.write_pipeline(tmp_path, tiny.TOML.replace("tiny:TinySpeech", "librispeech"))
    sets = {"data.root": str(spoken), "data.phones": str(made[0]), "data.validation": 0.4, "defaults.train.epochs": 1}
    stagewise.run(file, run=tmp_path / "run", set=sets)
    (probe,) = (json.loads(path.read_text()) for path in tmp_path.glob("run/probes/phones-*/probe.json"))
    assert (probe["labels"], probe["test_items"]) == ("phones", 2)
    assert 0 < probe["value"] <= 1


def test_transcripts_beside_the_files_other_rates_and_channels_and_the_labels_of_audio_folder(spoken, tmp_path):
    samples, _ = soundfile.read(spoken / "1/1/1-1-0000.flac")
    (tmp_path / "in" / "deep").mkdir(parents=True)
    soundfile.write(tmp_path / "in/deep/a.wav", np.stack([samples, samples], 1), 16_000)
    soundfile.write(tmp_path / "in/deep/b.flac", samples.repeat(3), 48_000)
    for name in "ab":
        (tmp_path / f"in/deep/{name}.txt").write_text(f"\n “{TEXTS['1-1-0000']}”\n", encoding="utf-8-sig")
    (tmp_path / "in/deep/._b.trans.txt").write_bytes(b"\x00\x05\x16\x07\xff")  # a note of macOS
    soundfile.write(tmp_path / "in/deep/c 1.wav", samples, 16_000)
    (tmp_path / "in/deep/c 1.txt").write_text(TEXTS["1-1-0000"])
    (tmp_path / "in/deep/talk.m4a").touch()
    soundfile.write(tmp_path / "in/deep/c.wav", samples, 16_000)
    (tmp_path / "in/deep/c.trans.txt").write_text(f"c {TEXTS['1-1-0000']}\n")
    noted = []
    lines = align(tmp_path / "in", tmp_path / "phones.txt", 1, lambda kind, **facts: noted.append(facts.get("text")))
    assert [line.get("failed") for line in lines] == [None] * 4
    assert "left out by their suffix: 1 .m4a" in noted
    arguments = {"root": str(tmp_path / "in"), "resample": True, "mono": True, "phones": str(tmp_path / "phones.txt")}
    read = AudioFolder(**arguments)
    a, b = (read.frame_labels("phones", item).classes for item in range(2))
    assert np.mean(a == b) > 0.9
    assert all(read.frame_labels("phones", item) for item in range(4))
    with pytest.raises(ConfigError, match="data.phones is for data.sample_rate = 16000, not 8000"):
        AudioFolder(**arguments, sample_rate=8000)


def test_two_transcripts_of_one_name_are_no_choice(tmp_path):
    (tmp_path / "a.trans.txt").write_text("one YES\ntwo NO\none YES\n")
    assert find_transcripts(tmp_path, ["one.flac", "two.flac"]) == ["YES", "NO"]
    (tmp_path / "b.trans.txt").write_text("\ntwo MAYBE\n")
    with pytest.raises(DataError, match=r"b\.trans\.txt:2: 'two' has another transcript already: leave one of them"):
        find_transcripts(tmp_path, ["one.flac", "two.flac"])


def test_the_same_bytes_after_a_kill_at_every_append_and_with_two_processes(spoken, made, tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    file, append = tmp_path / "killed.txt", durable.append_line
    for kill in range(len(TEXTS)):

        def append_and_die(path, content, kill=kill):
            if kill % 2:
                append(path, content)
            else:  # in the middle of the line
                with path.open("ab") as torn:
                    torn.write(json.dumps(content).encode()[:40])
            raise Killed

        monkeypatch.setattr(durable, "append_line", append_and_die)
        with pytest.raises(Killed):
            align(spoken, file, 1, silent)
        assert not file.exists()
    monkeypatch.setattr(durable, "append_line", append)
    aligned = Counter()
    monkeypatch.setattr(Aligner, "align", lambda *a, real=Aligner.align: aligned.update("a") or real(*a))
    align(spoken, file, 1, silent)
    assert aligned["a"] == len(TEXTS) - 2  # two of the four lines were whole
    assert both(file) == both(made[0])
    align(spoken, file, 1, silent)
    assert aligned["a"] == len(TEXTS) - 2
    assert both(file) == both(made[0])
    monkeypatch.undo()
    align(spoken, tmp_path / "two.txt", 2, silent)
    assert both(tmp_path / "two.txt") == both(made[0])


def test_what_changed_is_aligned_again_and_another_version_begins_anew(spoken, made, tmp_path, monkeypatch):
    root, file = tmp_path / "in", tmp_path / "phones.txt"
    shutil.copytree(spoken, root)
    for path in (file, items_file(file)):
        shutil.copy(made[0].with_name(path.name), path)
    (root / "1/1/1-1-0000.txt").write_text("Nothing of the kind, as usual.")
    aligned = []
    monkeypatch.setattr(Aligner, "align", lambda self, samples, words, *_: aligned.append(" ".join(words)))
    lines = align(root, file, 1, silent)
    assert aligned == ["nothing of the kind as usual"]
    assert lines[0]["failed"].startswith("its words cannot be found in it")
    monkeypatch.setattr(module, "FORMAT", 2)
    noted = []
    with pytest.raises(DataError, match="none of 4 items can be aligned"):
        align(root, file, 1, lambda kind, **facts: noted.append(facts.get("text", "")))
    assert len(aligned) == 5
    (said,) = filter(None, noted)
    assert re.fullmatch(rf"{items_file(file)} is of another version than poc.* .*, esp.* .*: all of it is al.*", said)


def test_a_file_that_is_replaced_by_one_of_the_same_length_is_aligned_again(spoken, tmp_path, monkeypatch):
    samples, _ = soundfile.read(spoken / "1/1/1-1-0000.flac")
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", samples, 16_000)
        (tmp_path / f"{name}.txt").write_text(TEXTS["1-1-0000"])
    file, aligned = tmp_path / "phones.txt", []
    monkeypatch.setattr(Aligner, "align", lambda *a, real=Aligner.align: aligned.append("") or real(*a))
    align(tmp_path, file, 1, silent)
    soundfile.write(tmp_path / "b.wav", 0.5 * samples, 16_000)
    (tmp_path / "a.wav").touch()
    told = []
    align(tmp_path, file, 1, lambda kind, **facts: told.append((kind, facts)))
    assert len(aligned) == 3
    assert ("look", {"what": "audio", "files": 2, "of": 2}) in told


def test_folders_that_cannot_be_labelled_are_refused(spoken, tmp_path):
    for part in ("first", "second"):
        shutil.copytree(spoken / "1", tmp_path / part / "1")
    with pytest.raises(DataError, match=r"holds '1-1-0000' twice, once as second/1/1/1-1-0000.flac: name one of the"):
        align(tmp_path, tmp_path / "phones.txt", 1, silent)
    png(tmp_path / "images" / "a.png", 8, 8)
    with pytest.raises(DataError, match=r"images holds no audio files: name the folder that holds the speech"):
        align(tmp_path / "images", tmp_path / "phones.txt", 1, silent)


def test_a_word_that_espeak_says_in_strange_sounds_is_spelled_and_told(spoken, tmp_path, monkeypatch):
    assert pronounce(["llanelli"]) == {}  # a sound of Welsh
    assert [spell(word) for word in ("llanelli", "o'x", "q")] == ["L AE N EH L IH", "AA Z", "K"]
    assert {phone for letter in "abcdefghijklmnopqrstuvwxyz" for phone in spell(letter).split()} <= set(PHONES)
    monkeypatch.setattr(module, "pronounce", lambda _: {})
    lines = align(spoken, tmp_path / "phones.txt", 1, silent)
    assert not any("failed" in line for line in lines)
    assert [line["spelled"] for line in lines] == [[], [], [], ["zorblatt"]]
    assert lines[3]["unknown"] == {"zorblatt": "Z AA R B L AE T"}
    found = facts(tmp_path / "phones.txt", lines)
    assert found["spelled_words"] == ["zorblatt"]
    assert any("spelled zorblatt: 1 of them letter by letter" in line for line in words(found))


def test_what_cannot_be_aligned_is_told_with_reasons(spoken, tmp_path):
    root, file = tmp_path / "in", tmp_path / "out" / "phones.txt"
    root.mkdir()
    texts = {
        "good": TEXTS["1-1-0000"], "none": None, "empty": " \n…", "number": "In 1984.", "russian": "да", 'a "b': "so",
        "sign": "so & so", "note": "so [door] so",
        "wrong": "once upon a midnight dreary while i pondered weak and weary over many a volume of forgotten lore",
    }  # fmt: skip
    for name, text in texts.items():
        shutil.copy(spoken / "1/1/1-1-0000.flac", root / f"{name}.flac")
        if text is not None:
            (root / f"{name}.txt").write_text(text)
    for name, samples in (("short", 300), ("long", 16_000 * 121)):
        soundfile.write(root / f"{name}.flac", np.zeros(samples), 16_000)
        (root / f"{name}.txt").write_text("so")
    lines = align(root, file, 1, silent)
    reasons = {line["key"].removesuffix(".flac"): line.get("failed") for line in lines}
    assert reasons.pop("good") is None
    for name, words_of in {
        "sign": "holds '&': write it in words", "note": "holds '[door]': take away what is not said",
        "none": "no transcript", "empty": "its transcript is empty", "number": "the number '1984'", "russian": "'д'",
        'a "b': "with blanks and double quotes", "wrong": "cannot be found", "short": "shorter than a label",
        "long": "than 2 min 0 s",
    }.items():  # fmt: skip
        assert words_of in reasons.pop(name)
    assert not reasons
    found = facts(file, lines)
    assert (found["items"], found["aligned"], found["without_transcript"], len(found["failed"])) == (11, 1, 1, 10)
    assert any("1 item without a transcript" in line for line in words(found))
    assert "4 others" in words(found)[-1]
    assert [json.loads(line).get("key") for line in items_file(file).read_text().splitlines()][1:] == sorted(
        f"{name}.flac" for name in [*texts, "short", "long"]
    )


def test_an_unknown_word_is_said_as_espeak_says_it(made):
    assert pronounce(["kine", "workhouse"]) == {"kine": "K AY N", "workhouse": "W ER K HH AW S"}
    assert set(" ".join(SOUNDS.values()).split()) == {*PHONES[1:], "-"}
    line = made[1][3]
    assert line["unknown"] == {"zorblatt": "Z AO R B L AE T"}
    assert facts(made[0], made[1])["unknown_words"] == line["unknown"]


def test_words_of_a_transcript():
    known = read_dictionary()
    assert split_words("“Don’t,” she said -- 'TIS Zoë's château!", known) == [
        "don't", "she", "said", "'tis", "zoe's", "chateau",
    ]  # fmt: skip
    assert split_words("'Quoted hello'", known) == ["quoted", "hello"]
    assert split_words("' -- '", known) == "its transcript is empty"


@pytest.mark.parametrize(
    "text", ["hello (laughs) there", "{noise} hi", "/noise/ hi", "*sighs* hi", "№ one", "hello™", "20° warm"]
)
def test_what_is_not_said_or_not_told_is_no_word(text):
    assert isinstance(split_words(text, read_dictionary()), str)


def test_a_stroke_between_words_parts_them():
    assert split_words("and/or hello", read_dictionary()) == ["and", "or", "hello"]


def test_transcripts_of_no_audio_file_are_found(tmp_path):
    for name in ("a/one.wav", "a/one.txt", "a/two.txt", "b/three.wav", "b/README.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "b.trans.txt").write_text("three HELLO\nfour YES\n")
    assert spare_transcripts(tmp_path, ["a/one.wav", "b/three.wav"]) == ["a/two.txt", "b: four"]


def test_a_score_far_below_the_others_is_doubtful(tmp_path):
    lines = [
        {"key": str(n), "seconds": 1.0, "score": -1.5 - n / 50, "unknown": {}, "phones": "0*50 3*50"} for n in range(9)
    ]
    assert facts(tmp_path / "f", lines)["doubtful"] == []
    lines[4]["score"] = -4.0
    found = facts(tmp_path / "f", lines)
    assert found["doubtful"] == [{"key": "4", "score": -4.0}]
    assert (found["silence"], found["median_phone_seconds"], found["seconds"]) == (0.5, 0.5, 9.0)
    assert any("doubtful 4 (-4.00)" in line for line in words(found))


def test_the_command_prints_a_table_or_json_and_refuses_in_words(spoken, tmp_path, monkeypatch):
    def call(*arguments):
        return CliRunner().invoke(data, ["align", *map(str, arguments)])

    file = tmp_path / "phones.txt"
    done = call(spoken, "--out", file, "--jobs", 1)
    assert done.exit_code == 0, done.output
    assert "4 of 4 items aligned" in done.output
    assert f'data.phones = "{file}"' in done.output
    done = call(spoken, "--out", file, "--json")
    assert json.loads(done.stdout)["classes"] == PHONES
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    assert "was not made by `data align`" in str(call(spoken, "--out", mine).exception)
    assert mine.read_text() == "mine"
    assert "lies below a file" in str(call(spoken, "--out", mine / "x").exception)
    assert "is not there" in str(call(tmp_path / "no", "--out", tmp_path / "x").exception)
    with module._alone(file):
        error = call(spoken, "--out", file).exception
    assert isinstance(error, StagewiseError)
    assert "being made by another process" in str(error)
    monkeypatch.setattr(module, "NEEDED", ("not-there-at-all",))
    error = call(spoken, "--out", file).exception
    assert isinstance(error, ConfigError)
    assert str(error) == "data align needs not-there-at-all: type `pip install 'stagewise[align]'`."


def test_progress_counts_seconds_of_speech():
    assert under_way("align", {"seconds": 12, "of": 60}) == ("align", 12, 60, "seconds of speech")


def test_real_speech(tmp_path, shared):
    """The labels there were made with the same tools, and pronunciations by hand for the words that were unknown."""
    root = shared / "librispeech-sample"
    shutil.copytree(root / "3331", tmp_path / "in" / "3331", ignore=shutil.ignore_patterns("*[3-9].flac"))
    align(tmp_path / "in", tmp_path / "phones.txt", 1, silent)
    ours, theirs = (
        LibriSpeech(str(tmp_path / "in"), subset=None, phones=str(file))
        for file in (tmp_path / "phones.txt", root / "phone_alignment.txt")
    )
    same = [
        ours.frame_labels("phones", item).classes == theirs.frame_labels("phones", item).classes
        for item in range(len(ours))
    ]
    assert np.mean(np.concatenate(same)) > 0.98
