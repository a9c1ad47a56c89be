"""Lists, phone labels and tables at the top of a folder are taken if a data set takes them; the rest is named."""

import os
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_files import png, wav

from stagewise.cli.main import main
from stagewise.datasets.files import find
from stagewise.datasets.labels import frame_count
from stagewise.errors import ConfigError, DataError
from stagewise.probing.run import planned_probes
from stagewise.starting.audio import audio_recipe
from stagewise.starting.choose import verdict
from stagewise.starting.images import images_recipe
from stagewise.starting.recipe import WIDTH, Machine, root_line, table
from stagewise.starting.survey import look
from stagewise.starting.write import start

CPU = Machine(None, 8 << 30, 50_000_000_000, 2)


@pytest.fixture(autouse=True)
def little_is_enough(monkeypatch):
    monkeypatch.setattr("stagewise.starting.audio.FEW", 0)


def recipe(folder, labels=None):
    """The data table and the recipe of a folder of audio."""
    made = audio_recipe(replace(look(find(folder), "audio"), labels=labels), gpu=False)
    return {key: value for key, value, _ in made.data}, made


@pytest.fixture
def speech(tmp_path):
    """Two speakers in LibriSpeech's layout, two utterances each."""
    for speaker in ("12", "34"):
        for number in range(2):
            wav(tmp_path / "in" / speaker / "5" / f"{speaker}-5-000{number}.flac", 1.0)
    return tmp_path / "in"


@pytest.fixture
def birds(tmp_path):
    """Four files in a flat folder."""
    for number in range(4):
        wav(tmp_path / "in" / f"{number}.wav", 1.0)
    return tmp_path / "in"


def phone_lines(keys, count=None):
    return "".join(f"{key} 4{' 3' * ((count or frame_count(16_000)) - 1)}\n" for key in keys)


def test_lists_and_phones_of_librispeech_and_what_else_lies_there(speech, no_peaks_here):
    (speech / "train.txt").write_text("12-5-0000\n34-5-0000\n")
    (speech / "test.txt").write_text("34-5-0001\n")
    (speech / "phones.ali.txt").write_text(phone_lines(["12-5-0000", "34-5-0001", "99-1-0000"]))
    (speech / "SPEAKERS.TXT").write_text("12 | ann")
    told = []
    text, plan = start(
        look(find(speech), "audio"), CPU, "made", speech.parent / "x.toml", lambda kind, **facts: told.append(facts)
    )
    content = tomllib.loads(text)
    assert content["data"]["splits"] == {"train": str(speech / "train.txt"), "test": str(speech / "test.txt")}
    assert content["data"]["phones"] == str(speech / "phones.ali.txt")
    assert [probe["labels"] for probe in content["probe"]] == ["phones"]  # of one speaker there is one utterance
    assert "# phone labels of 2 of 3 files, found here" in text
    assert "# lists found here: 2 for training, 1 for testing" in text
    assert "# beside the files, not used: SPEAKERS.TXT" in text
    unlisted = "left out, as neither train.txt nor test.txt names them: 1 file, such as 12/5/12-5-0001.flac"
    assert told == [{"text": unlisted}, {"text": "beside the files, not used: SPEAKERS.TXT"}]
    assert f"# {unlisted}" in text
    assert list(plan.data.keys) == ["12-5-0000", "34-5-0000", "34-5-0001"]
    assert list(plan.data.split("test")) == [2]
    assert plan.data.label_kind("phones") == "frames"


@pytest.mark.parametrize("train", ["0\n9\n", "0\n3\n", ""])
def test_lists_that_do_not_fit_are_named_with_the_reason(birds, train):
    (birds / "train.txt").write_text(train)
    (birds / "test.txt").write_text("3.wav\n")
    data, made = recipe(birds)
    assert "splits" not in data
    (note,) = made.notes
    assert note.startswith(f"train.txt and test.txt not used: {birds}/")
    assert "train.txt" in note


def test_one_list_alone_is_no_split(birds):
    (birds / "train.txt").write_text("0\n")
    data, made = recipe(birds)
    assert "splits" not in data
    assert made.notes == ["beside the files, not used: train.txt"]


def test_bad_files_that_no_list_names_do_not_count(birds):
    (birds / "bad.wav").write_bytes(b"no sound")
    (birds / "train.txt").write_text("0\n1\n")
    (birds / "test.txt").write_text("2\n")
    data, made = recipe(birds)
    assert "bad_items" not in data
    assert made.items == 3


def test_phone_labels_of_other_audio_are_named_and_of_two_files_none_is_taken(birds):
    (birds / "a.txt").write_text(phone_lines(["0.wav"], 7))
    with pytest.raises(ConfigError, match=r"no phone labels were found at the top of .*in that fit \(a.txt not used: "):
        recipe(birds, labels="phones")
    data, made = recipe(birds)
    assert "phones" not in data
    assert "a.txt not used" in made.notes[0]
    assert "has 7 labels" in made.notes[0]
    (birds / "a.txt").write_text(phone_lines(["0.wav"]))
    assert recipe(birds)[0]["phones"] == str(birds / "a.txt")
    assert recipe(birds, labels="phones")[0]["phones"] == str(birds / "a.txt")
    (birds / "b.txt").write_text(phone_lines(["1.wav"]))
    data, made = recipe(birds)
    assert "phones" not in data
    assert made.notes == ["a.txt and b.txt both look like phone labels: data.phones takes one"]


def test_phone_labels_need_16000_samples_a_second(tmp_path):
    for number in range(4):
        wav(tmp_path / f"{number}.wav", 1.0, 8_000)
    (tmp_path / "a.txt").write_text(phone_lines(["0.wav"]))
    data, made = recipe(tmp_path)
    assert "phones" not in data
    assert made.notes == ["beside the files, not used: a.txt"]
    with pytest.raises(ConfigError, match=r"\(they need 16,000 samples a second, and there are 8,000\): leave `phones"):
        recipe(tmp_path, labels="phones")


def test_a_table_of_one_label_is_taken_beside_the_folders(tmp_path, no_peaks_here):
    for number in range(8):
        wav(tmp_path / "in" / "ab"[number % 2] / f"{number}.wav", 1.0)
    lines = [f"{'ab'[number % 2]}/{number}.wav,{'owl' if number < 4 else 'wren'}\n" for number in range(8)]
    (tmp_path / "in" / "birds.csv").write_text("file,species\n" + "".join(lines))
    text, plan = start(look(find(tmp_path / "in"), "audio"), CPU, "made", tmp_path / "x.toml")
    content = tomllib.loads(text)
    assert content["data"]["labels"] == {"class": "folder", "species": str(tmp_path / "in/birds.csv")}
    assert [probe["labels"] for probe in content["probe"]] == ["class", "species"]
    assert plan.data.label_classes("species") == ["owl", "wren"]


@pytest.mark.parametrize(
    ("table", "note"),
    [
        ("file,phones\n0,1\n", "t.csv not used: there is a phones already: give its column another name"),
        ("file,a\n0,x\n1,y\n", "a: 2 of 4 items have a label"),
        ("file,a\n0,x\n1,y\n", "a of t.csv not used: no two of its classes have two files each"),
        ("file,a\n0,x\nx1,x\nx2,x\n", "a: 1 of 4 items have a label; 2 lines name no file: x1, x2"),
        ("name,a\nhello,x\n", "begins with the line file,LABEL or folder,LABEL, not name,a"),
        ("", "beside the files, not used: t.csv"),
    ],
)
def test_tables_that_give_nothing_to_learn_are_named(birds, table, note):
    (birds / "t.csv").write_text(table)
    data, made = recipe(birds)
    assert "labels" not in data
    assert any(note in each for each in made.notes), made.notes


def test_columns_of_many_classes_are_named(birds, tmp_path):
    table = "file,who,site" + "".join(f"\n{n},{who},{n % 2}" for n, who in enumerate("aabbc"))
    wav(birds / "4.wav", 1.0)
    (birds / "t.csv").write_text(table)
    data, made = recipe(birds)
    assert list(data["labels"]) == ["site"]
    assert made.notes == ["who of t.csv not used: more classes than half of the files; --labels site,who takes them"]
    data, made = recipe(birds, "site,who")
    assert (list(data["labels"]), made.notes) == (["who", "site"], [])


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("file,a\n7,x\n", r"t.csv: none of its files is in the data set \(1 line names no file: 7\): write paths as"),
        ("file,a\n0,x\n0,y\n", "t.csv:3: 0 is here a second time"),
        ("file,a\n0,x,1\n", "t.csv:2: 3 columns where the first line has 2"),
        ('file,a\n"0,x\n', "t.csv:2: not cells between commas"),
        ("name,a\n0,x\n", "t.csv:1: its column 'name' names the files: call it `file`"),
        ("0.wav,x\n1.wav,y\n", "t.csv:1: the first line names a file, not columns: write file,LABEL above it"),
        ("file,a\n0,K\u00f6ln\n".encode("latin-1"), "t.csv:2: not UTF-8 text"),
        (
            "file," + ",".join("abcde") + "".join(f"\n{n}{f',{n % 2}' * 5}" for n in range(4)),
            r"t.csv has 5 columns that could be labels, a, b, c, d, e: choose, for example with --labels a\.",
        ),
    ],
)
def test_tables_of_files_that_cannot_be_taken_end_init_and_check(birds, table, words):
    (birds / "t.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(ConfigError, match=rf"(?s){words}.* Or type --labels none, to train without labels\.$"):
        recipe(birds)
    for command in (["init", str(birds)], ["data", "check", str(birds)]):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 2
        assert re.search(words, result.output)
    assert "labels" not in recipe(birds, labels="none")[0]


@pytest.mark.parametrize(
    "text",
    [
        "file,sex,kind\n0,m,x\n1,w,x\n2,m,y\n3,w,y\n",
        "FILE;Sex;Kind\n0.wav; m; x\n1.wav;w;x\n./2.wav;m;y\n3;w;y\n",
        "Filename\tSex\tnote\tKind\n0\tm\ta\tx\n1\tw\tb\tx\n2\tm\tc\ty\n3\tw\td\ty\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_tables_of_several_labels_are_taken_as_spreadsheets_write_them(birds, text, encoding):
    (birds / "t.csv").write_bytes(text.encode(encoding))
    data, made = recipe(birds)
    assert [label.lower() for label in data["labels"]] == ["sex", "kind"]
    assert {label.lower(): dict(counts) for label, counts in made.labels.items()} == {
        "sex": {"m": 2, "w": 2}, "kind": {"x": 2, "y": 2},
    }  # fmt: skip
    chosen, _ = recipe(birds, labels=list(data["labels"])[1])
    assert [label.lower() for label in chosen["labels"]] == ["kind"]


def test_labels_that_are_asked_for_and_not_there(birds):
    (birds / "t.csv").write_text("file,sex\n0,m\n1,w\n2,m\n3,w\n")
    with pytest.raises(ConfigError, match="there is no label 'age'; there are: sex"):
        recipe(birds, labels="sex, age")
    with pytest.raises(ConfigError, match=r"there is no label 'sxe' \(did you mean \"sex\"\?\); there are: sex"):
        recipe(birds, labels="sxe")
    (birds / "t.csv").write_text("file,sex,name\n0,m,a\n1,w,b\n2,m,c\n3,w,d\n")
    with pytest.raises(ConfigError, match="no label 'name' was found that a probe could learn and be .* found: sex"):
        recipe(birds, labels="sex,name")


def test_a_label_of_any_letters_is_taken_and_its_probe_has_a_name(birds, no_peaks_here):
    (birds / "t.csv").write_text("file,Gr\u00f6\u00dfe (cm),\u7a2e\n0,1,a\n1,2,b\n2,1,a\n3,2,b\n")
    content, _, _ = told(birds)
    assert list(content["data"]["labels"]) == ["Gr\u00f6\u00dfe (cm)", "\u7a2e"]
    assert [probe["name"] for probe in content["probe"]] == ["Gr-e-cm-1", "label-2"]


@pytest.fixture
def digits(tmp_path):
    """Sixteen files whose names hold a digit, a speaker and a number."""
    for number in range(16):
        wav(tmp_path / "in" / f"{number % 2}_{'ann' if number < 8 else 'bob'}_{number}.wav", 1.0)
    return tmp_path / "in"


def test_labels_in_names_of_files_are_taken_by_a_pattern(digits, no_peaks_here):
    data, made = recipe(digits, labels="{digit}_{speaker}_*.wav")
    assert data["labels"] == dict.fromkeys(["digit", "speaker"], "{digit}_{speaker}_*.wav")
    assert made.labels == {"digit": {"0": 8, "1": 8}, "speaker": {"ann": 8, "bob": 8}}
    with pytest.raises(DataError, match='data.labels.a: no file is called as "{a}_x" says; the first is 0_ann_0.wav'):
        recipe(digits, labels="{a}_x")


def test_labels_in_names_of_files_are_asked_for(digits):
    words = r'names of files, such as 0_ann_0.wav, may hold labels: type --labels "{label1}_{label2}_\*", with'
    with pytest.raises(ConfigError, match=words):
        recipe(digits)
    assert "labels" in recipe(digits, labels="{digit}_{speaker}_*")[0]
    assert recipe(digits, labels="none")[1].notes == []
    for path in digits.iterdir():
        path.rename(digits / path.name.replace("ann", "7").replace("bob", "8"))
    (note,) = recipe(digits)[1].notes  # numbers may be dates: said, and not asked
    assert note.startswith("names of files, such as 0_7_0.wav, may hold labels")


def test_transcripts_are_no_surprise_and_of_many_files_a_few_are_named(birds):
    (birds / "0.txt").write_text("hello")
    assert recipe(birds)[1].notes == []
    for number in range(10, 20):
        (birds / f"{number}.json").touch()
    (note,) = recipe(birds)[1].notes
    assert note.endswith("15.json, and 4 others")


def test_what_is_no_file_is_not_opened(birds):
    os.mkfifo(birds / "train.txt")
    os.mkfifo(birds / "phones.txt")
    (birds / "test.txt").mkdir()
    assert recipe(birds)[1].notes == []


def test_a_table_that_is_called_as_a_file_is_one_of_all(birds):
    (birds / "0.csv").write_text("file,species\n0,a\n1,b\n2,a\n3,b\n")
    data, made = recipe(birds)
    assert (data["labels"], made.notes) == ({"species": str(birds / "0.csv")}, [])
    (birds / "1.csv").write_text("seconds,call\n0.1,x\n")  # a series: what is called in each
    assert recipe(birds)[1].labels == {}


def test_a_table_of_files_and_folders_is_one_of_files(birds):
    (birds / "t.csv").write_text("folder,image,sex\nx,0,m\nx,1,w\ny,2,m\ny,3,w\n")
    data, made = recipe(birds)
    assert sorted(data["labels"]) == ["folder", "sex"]
    assert "t.csv: its column image says what a line is of; labels: folder" in made.notes


def test_lists_of_images(tmp_path):
    for number in range(4):
        png(tmp_path / "in" / "ab"[number % 2] / f"{number}.png", 48, 48)
    (tmp_path / "in" / "train.txt").write_text("a/0\nb/1.png\n")
    (tmp_path / "in" / "test.txt").write_text("a/2.png\n")
    made = images_recipe(look(find(tmp_path / "in"), "images"), gpu=False)
    assert "splits" in [key for key, _, _ in made.data]
    assert made.items == 3


@pytest.mark.parametrize("test", ["test", "validation", "valid", "val"])
def test_folders_for_testing_have_several_names(tmp_path, test):
    for part in ("train", test):
        for number in range(4):
            png(tmp_path / "in" / part / "ab"[number % 2] / f"{number}.png", 48, 48)
    data = {key: value for key, value, _ in images_recipe(look(find(tmp_path / "in"), "images"), gpu=False).data}
    assert (data["root"], data["test"]) == (str(tmp_path / "in/train"), str(tmp_path / "in" / test))


def test_folders_of_audio_that_are_a_split_are_said_to_be_none(tmp_path):
    for part in ("train", "test"):
        for number in range(4):
            wav(tmp_path / part / "ab"[number % 2] / f"{number}.wav", 1.0)
    _, made = recipe(tmp_path)
    (why,) = (why for key, _, why in made.data if key == "root")
    assert why.startswith("train and test are chosen file by file, whatever its folders say")


def test_a_relative_root_says_where_it_starts_and_long_lines_have_their_reason_above(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert root_line("root", tmp_path) == ("root", str(tmp_path), "")
    assert root_line("root", Path("in"), "x") == ("root", "in", f"x; as seen from {tmp_path}, where you type stagewise")
    reason, line = table([("root", "x" * 105, "a reason")]).split("\n")
    assert (reason, len(line) > WIDTH - 20) == ("# a reason", True)


def told(folder, kind="audio"):
    """The content of the file that is written for a folder, and its notes; it is planned as `run` would."""
    notes = []
    text, plan = start(
        look(find(folder), kind), CPU, "made", folder.parent / "x.toml", lambda _, text="", **__: notes.append(text)
    )
    planned_probes(plan)
    return tomllib.loads(text), "\n".join(notes), text


def test_labels_that_the_lists_leave_nothing_to_learn_of_get_no_probe(tmp_path, no_peaks_here):
    for name in ("a/0", "a/1", "b/0", "b/1", "c/0", "c/1"):
        wav(tmp_path / "in" / f"{name}.wav", 1.0)
    (tmp_path / "in" / "train.txt").write_text("a/0\na/1\nb/0 \n./b/1\n")
    (tmp_path / "in" / "test.txt").write_text("c/0\nc/1\n")
    content, notes, text = told(tmp_path / "in")
    assert set(content["data"]["splits"]) == {"train", "test"}
    assert "probe" not in content
    assert "no probe for class: no training item has a label 'class' that a test item has" in notes
    assert "# no probe for class: " in text
    assert verdict(look(find(tmp_path / "in"), "audio"), True)["labels"] == {}
    (tmp_path / "in" / "test.txt").write_text("b/1\n")
    (tmp_path / "in" / "train.txt").write_text("a/0\na/1\nb/0\n")
    assert [probe["labels"] for probe in told(tmp_path / "in")[0]["probe"]] == ["class"]


def test_phone_labels_that_no_test_item_has_get_no_probe(birds, no_peaks_here):
    (birds / "ali.txt").write_text(phone_lines(["0.wav"]))
    content, notes, _ = told(birds)
    assert ("phones" in content["data"], "probe" in content) == (False, False)
    assert "no probe for phones: " in notes


@pytest.mark.parametrize("header", ["file,phones", "file,class"])
def test_a_table_takes_no_label_that_there_is_already(tmp_path, header, no_peaks_here):
    for name in ("a/0", "a/1", "a/2", "b/0", "b/1", "b/2"):
        wav(tmp_path / "in" / f"{name}.wav", 1.0)
    lines = "".join(f"{folder}/{number}.wav,{number % 2}\n" for folder in "ab" for number in range(3))
    (tmp_path / "in" / "t.csv").write_text(f"{header}\n{lines}")
    content, notes, _ = told(tmp_path / "in")
    assert content["data"]["labels"] == {"class": "folder"}
    assert "t.csv not used: there is a " in notes


def test_images_whose_test_folder_has_no_classes(tmp_path, no_peaks_here):
    for name in ("train/cat/0", "train/cat/1", "train/dog/0", "train/dog/1", "test/0", "test/1", "more/0"):
        png(tmp_path / "in" / f"{name}.png", 48, 48)
    content, notes, text = told(tmp_path / "in", "images")
    assert "probe" not in content
    assert "no probe for class: no test item has a label 'class'" in notes
    assert "more, with 1 image, is not used" in notes
    assert f'data.unlabelled = "{tmp_path}/in/more" trains on them, too' in notes
    assert "warning: only 4 images to train on" in notes
    assert "Classes are folders of several images" in text
    assert "species.csv" not in text
    (tmp_path / "in" / "test" / "bird").mkdir()
    (tmp_path / "in" / "test" / "0.png").rename(tmp_path / "in" / "test" / "bird" / "0.png")
    found = verdict(look(find(tmp_path / "in"), "images"), True)
    assert (found["fit"], "has images of the class 'bird'" in found["why"]) == (False, True)


def test_a_table_in_the_layout_of_librispeech(speech, no_peaks_here):
    lines = [f"{path.relative_to(speech)},{path.stem[-1]}" for path in sorted(speech.rglob("*.flac"))]
    (speech / "take.csv").write_text("\n".join(["file,take", *lines]))
    content, _, _ = told(speech)
    assert content["data"]["labels"] == {"take": str(speech / "take.csv")}
    assert [probe["labels"] for probe in content["probe"]] == ["speaker", "take"]
    (speech / "take.csv").write_text("file,speaker\n" + "\n".join(lines))
    assert "take.csv not used: there is a speaker already" in told(speech)[1]


def test_labels_that_are_refused_leave_no_line(tmp_path, no_peaks_here):
    for name in ("a/0", "a/1", "b/0", "b/1"):
        wav(tmp_path / "in" / f"{name}.wav", 1.0)
    (tmp_path / "in" / "train.txt").write_text("a/0\na/1\n")
    (tmp_path / "in" / "test.txt").write_text("b/0\nb/1\n")
    kinds = {"a/0": "E. coli", "a/1": "E. coli", "b/0": "x", "b/1": "x"}
    table = "".join(f"{name}.wav,{kind}\n" for name, kind in kinds.items())
    (tmp_path / "in" / "t.csv").write_text("file,species\n" + table)
    content, notes, _ = told(tmp_path / "in")
    assert "labels" not in content["data"]
    words = "all training items have the same label 'species', 'E. coli': there is nothing to tell apart"
    assert f"no probe for species: {words}" in notes.splitlines()


def test_tables_and_names_of_images(tmp_path, no_peaks_here):
    for number in range(8):
        png(tmp_path / "in" / f"{'ab'[number % 2]}_{number}.png", 48, 48)
    lines = [f"{'ab'[number % 2]}_{number}.png\t{'m' if number < 4 else 'w'}\t{number}" for number in range(8)]
    (tmp_path / "in" / "t.tsv").write_text("\n".join(["image\tSex\tnumber", *lines]))
    content, _, _ = told(tmp_path / "in", "images")
    assert content["data"]["labels"] == {"Sex": str(tmp_path / "in/t.tsv")}
    assert [probe["labels"] for probe in content["probe"]] == ["Sex"]
    made = images_recipe(replace(look(find(tmp_path / "in"), "images"), labels="{kind}_*"), gpu=False)
    assert dict(made.labels["kind"]) == {"a": 4, "b": 4}
    (tmp_path / "in" / "t.tsv").write_text("image\tSex\nx.png\tm\n")
    with pytest.raises(ConfigError, match="t.tsv: none of its files is in the data set"):
        images_recipe(look(find(tmp_path / "in"), "images"), gpu=False)


def test_labels_that_are_asked_for_beside_test_images(tmp_path):
    for number in range(8):
        png(tmp_path / ("train", "test")[number % 2] / "ab"[number // 4] / f"x_{number}.png", 48, 48)
    images = look(find(tmp_path), "images")
    assert list(images_recipe(replace(images, labels="class"), gpu=False).labels) == ["class"]
    with pytest.raises(ConfigError, match=r"there is no label 'plate'; there are: class\."):
        images_recipe(replace(images, labels="plate"), gpu=False)
    with pytest.raises(ConfigError, match=r"there is no label 'phones'; there are: class\."):
        images_recipe(replace(images, labels="phones"), gpu=False)
    with pytest.raises(ConfigError, match=r"Beside train and test, no names of files are looked into: write data"):
        images_recipe(replace(images, labels="{plate}_*"), gpu=False)


def test_tables_that_are_called_as_a_file_are_counted(birds):
    for number in range(3):
        (birds / f"{number}.csv").write_text("file,species\n")
    assert "called as the files that they lie beside, and not used: 3 .csv" in recipe(birds)[1].notes
