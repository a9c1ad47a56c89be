"""Names in lists, tables and phone files mean the same files, whoever wrote them; what names no file is counted."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stagewise.datasets.labels import read_alignment, read_split_lists
from stagewise.datasets.names import AMBIGUOUS, LEFT_OUT, Names, Strays, read_lines
from stagewise.datasets.tables import read_cells, read_table
from stagewise.errors import DataError

MOEWE = unicodedata.normalize("NFD", "a/Möwe.wav")
PATHS = ["a/1.wav", "a/2.wav", "b/2.wav", MOEWE, "take 3.wav", "take.wav", " odd.wav", "c\\d.wav"]
NAMES = Names(PATHS)


@pytest.mark.parametrize(
    ("name", "item"),
    [
        *((path, place) for place, path in enumerate(PATHS)),
        ("a/1", 0), ("1.wav", 0), ("1", 0), ("./a/1.wav", 0), ("a\\1.wav", 0), (".\\a\\1.wav", 0), ("  a/1.wav ", 0),
        ("a//1.wav", 0), ("2", AMBIGUOUS), ("2.wav", AMBIGUOUS), ("b/2", 2), ("a/M\u00f6we.wav", 3),
        ("M\u00f6we", 3), ("odd", 6), ("d", 7), ("c/d.wav", 7),
        ("3", None), ("", None), (".", None), ("a", None),
        ("A/1.wav", None),
    ],
)  # fmt: skip
def test_a_file_goes_by_many_names(name, item):
    assert NAMES.find(name) == item


def test_the_same_letters_twice_on_a_disk_are_told_apart_by_their_bytes():
    names = Names([MOEWE, unicodedata.normalize("NFC", MOEWE)])
    assert [names.find(path) for path in names.paths] == [0, 1]
    assert names.find("Möwe") == AMBIGUOUS


def test_files_that_are_no_items_are_there_nevertheless():
    some = NAMES.only(np.array([3, 0]))
    assert [some.find(name) for name in ("1", "Möwe", "b/2.wav", "2", "gone")] == [1, 0, LEFT_OUT, AMBIGUOUS, None]
    assert (len(some), some.path(0), some.path(1)) == (2, MOEWE, "a/1.wav")
    assert some.find_in_folder("a") == [1, LEFT_OUT, 0]
    assert NAMES.find("Möwe") == 3


@pytest.mark.parametrize("folder", ["a", "a/", "./a", ".\\a\\", " a"])
def test_folders_too(folder):
    assert NAMES.find_in_folder(folder) == [0, 1, 3]
    assert NAMES.find_in_folder("none") is None


ALPHABET = st.text("ab 1.\\öÖ\N{COMBINING DIAERESIS}é", min_size=1, max_size=4)


@given(st.lists(st.tuples(ALPHABET, ALPHABET), min_size=1, max_size=6, unique=True))
def test_a_path_as_it_is_means_its_own_file_whatever_the_others_are_called(parts):
    paths = [f"{folder}/{name}.wav" for folder, name in parts]
    names = Names(paths)
    assert [names.find(path) for path in paths] == list(range(len(paths)))


def test_strays_are_counted_and_three_are_shown():
    assert Strays.of([]) is None
    assert str(Strays.of(["x"])) == "1 line names no file: x"
    assert str(Strays.of(list("abcd"), "folder")) == "4 lines name no folder: a, b, c, …"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_as_systems_write_them(tmp_path, encoding, end):
    text = end.join(["file,kind", "", "Möwe,x", "last"])
    bom = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    (tmp_path / "x").write_bytes((bom + text).encode(encoding))
    assert list(read_lines(tmp_path / "x")) == [(1, "file,kind"), (3, "Möwe,x"), (4, "last")]
    (tmp_path / "x").write_bytes((bom + text + end).encode(encoding))
    assert [line for _, line in read_lines(tmp_path / "x")] == ["file,kind", "Möwe,x", "last"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a\nMöwe\n".encode("latin-1"), 2),
        ("file,kind\na,b\n".encode("utf-16-le"), 1),  # without its mark, it is taken for UTF-8 with zeros in it
        ("\ufeffa\nb".encode("utf-16-le")[:-1], 1),
        (b"a\nb\n\0c", 3),
    ],
)
def test_text_in_other_encodings_is_refused_by_its_line(tmp_path, content, line):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=rf"x:{line}: not UTF-8 text: save the file as UTF-8\."):
        list(read_lines(tmp_path / "x"))


def table(tmp_path, text, label="kind", names=NAMES, encoding="utf-8"):
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    found = read_table(tmp_path, label, tmp_path / "t.csv", names)
    return [found.names[number] if number >= 0 else None for number in found.classes], found.strays


@pytest.mark.parametrize(
    "text",
    [
        "file,kind\na/1.wav,owl\na/2.wav,wren\nb/2.wav,owl\n",
        "file;kind\na/1.wav;owl\na/2.wav;wren\nb/2.wav;owl\n",
        "file\tkind\na/1.wav\towl\na/2.wav\twren\nb/2.wav\towl\n",
        " File , KIND \n./a/1.wav , owl\na\\2.wav,wren \n b/2.wav, owl\n,\n\n",
        'Filename;"Kind"\n"a/1.wav"; "owl"\n"a/2.wav";"wren"\nb/2.wav;owl\n;\n',
        "PATH,note,Kind\na/1.wav,x,owl\na/2.wav,,wren\nb/2,y,owl\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_tables_as_spreadsheets_write_them(tmp_path, text, encoding):
    assert table(tmp_path, text, encoding=encoding) == (["owl", "wren", "owl", *[None] * 5], None)


def test_quoted_cells_are_whole_and_blanks_around_cells_are_none(tmp_path):
    values, strays = table(
        tmp_path, 'file,kind\n1,"owl, barn\nor ""tawny"""\n"take 3.wav",cat\ntake, cat\n odd.wav,  \n'
    )
    assert values[0] == 'owl, barn\nor "tawny"'
    assert values[4:7] == ["cat", "cat", None]
    assert strays is None


def test_classes_are_composed(tmp_path):
    values, _ = table(tmp_path, "file,kind\n1,M\u00f6we\na/2,Mo\u0308we\n")
    assert values[:2] == ["M\u00f6we", "M\u00f6we"]


def test_lines_that_name_no_file_are_counted_and_those_of_files_that_are_no_items_are_not(tmp_path):
    text = "file,kind\na/1.wav,owl\nxa/2.wav,owl\nb/2,wren\nxb/2.wav,owl\nMöwe,wren\n"
    values, strays = table(tmp_path, text, names=NAMES.only(np.array([0, 3])))
    assert values == ["owl", "wren"]
    assert strays == Strays(2, ("xa/2.wav", "xb/2.wav"))
    _, strays = table(tmp_path, "folder,kind\na,owl\nx,wren\n")
    assert str(strays) == "1 line names no folder: x"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"t.csv is empty: write `file,LABEL` into its first line, and below it one file a line\."),
        ('file,kind\n"a"b,c\n', r"t.csv:2: not cells between commas \('.' expected after '\"'\): a quoted cell begins"),
    ],
)
def test_cells_that_are_none(tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_cells(tmp_path / "t.csv")


def test_lists_take_the_same_names(tmp_path):
    (tmp_path / "train.txt").write_bytes("./a/1.wav\r\na\\2\r\ntake 3\r\n".encode("utf-16"))
    (tmp_path / "test.txt").write_text(unicodedata.normalize("NFC", MOEWE) + " \n")
    lists = {name: str(tmp_path / f"{name}.txt") for name in ("train", "test")}
    assert read_split_lists(lists, NAMES) == {"train": {0, 1, 4}, "test": {3}}


def test_lists_that_name_what_is_not_there_show_three(tmp_path):
    (tmp_path / "train.txt").write_text("a/1\nx\ny\nz\nw\n")
    lists = {name: str(tmp_path / "train.txt") for name in ("train", "test")}
    message = r"train.txt:2: 4 lines name no file: x, y, z, …: set data.root .* or correct data.splits.train"
    with pytest.raises(DataError, match=message):
        read_split_lists(lists, NAMES)


def phones(tmp_path, text, names=NAMES):
    (tmp_path / "p.txt").write_text(text)
    found = read_alignment(tmp_path / "p.txt", names, np.full(len(names), 720))
    return {item: labels.classes.tolist() for item in range(len(names)) if (labels := found.of(item))}, found.strays


@pytest.mark.parametrize(
    ("line", "item"),
    [
        ("a/1.wav 7 0 2", 0), ("./a/1 7 0 2", 0), ("a\\1.wav\t7 0 2 ", 0), ("Möwe.wav 7 0 2", 3),
        ("take 3.wav 7 0 2", 4),
        ("take 3 7 0 2", 4), ("take 7 0 2", 5), ('"take 3" 7 0 2', 4), ('"a/1" 7 0 2', 0), ("odd.wav 7 0 2", 6),
    ],
)  # fmt: skip
def test_phone_files_take_the_same_names_also_with_blanks_in_them(tmp_path, line, item):
    assert phones(tmp_path, line) == ({item: [7, 0, 2]}, None)


def test_lines_of_phones_that_name_no_file(tmp_path):
    some, strays = phones(tmp_path, "a/1 1 2 3\ngrey owl 12 1 2 3\nb/2 1 2\n", NAMES.only(np.array([0])))
    assert some == {0: [1, 2, 3]}
    assert str(strays) == "1 line names no file: grey owl"
    with pytest.raises(DataError, match="p.txt:1: take has 4 labels; its 720 samples need 3"):
        phones(tmp_path, "take 1 2 3 4")
    with pytest.raises(DataError, match="p.txt:2: take 3.wav is here a second time"):
        phones(tmp_path, "take 3 1 2 3\ntake 3.wav 1 2 3\n")
    with pytest.raises(DataError, match="p.txt:1: 2 is the name of several files"):
        phones(tmp_path, "2 1 2 3\n")


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp", "Zs"]), min_size=1, max_size=6)
WRITTEN = st.fixed_dictionaries(
    {
        "rows": st.lists(st.tuples(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, None]), CELL), min_size=1, max_size=8),
        "delimiter": st.sampled_from(",;\t"),
        "encoding": st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
        "end": st.sampled_from(["\n", "\r\n", "\r"]),
        "form": st.sampled_from(["NFC", "NFD"]),
        "before": st.sampled_from(["", "./", ".\\", " "]),
        "quoted": st.booleans(),
        "header": st.sampled_from(["file", "File", " FILE", "filename", "Path"]),
    }
)


@given(WRITTEN)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_whatever_a_table_is_written_with_every_line_is_read_or_counted(tmp_path, written):
    quote = (lambda cell: '"' + cell.replace('"', '""') + '"') if written["quoted"] else str
    plain = [(item, label) for item, label in written["rows"] if written["quoted"] or not set(label) & set('",;\t')]
    rows = {item: label for item, label in plain if item is not None}  # a file is not named twice
    strays = [label for item, label in plain if item is None]
    lines = [(PATHS[item], label) for item, label in rows.items()] + [("nowhere.wav", label) for label in strays]
    cells = [(written["header"], "kind"), *((written["before"] + name, label) for name, label in lines)]
    text = written["end"].join(written["delimiter"].join(map(quote, row)) for row in cells)
    content = unicodedata.normalize(written["form"], text).encode(written["encoding"])
    (tmp_path / "t.csv").write_bytes(content)
    if not rows:
        with pytest.raises(DataError, match=r"t\.csv"):
            read_table(tmp_path, "kind", tmp_path / "t.csv", NAMES)
        return
    found = read_table(tmp_path, "kind", tmp_path / "t.csv", NAMES)
    expected = {item: unicodedata.normalize("NFC", label) for item, label in rows.items()}
    assert {item: found.names[number] for item, number in enumerate(found.classes) if number >= 0} == expected
    assert (found.strays.lines if found.strays else 0) == len(strays)


TABLE = 'file,kind\r\na/1.wav,owl\r\n./a/2.wav, wren\r\n"take 3.wav","owl, barn"\r\nb\\2.wav,Möwe\r\n'


@given(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=3), st.integers(0, 3)), max_size=3), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=500)
def test_tables_with_other_bytes_in_them_are_read_or_refused_by_name(tmp_path, changes, wide):
    content = TABLE.encode("utf-16" if wide else "utf-8")
    for where, new, lost in changes:
        at = int(where * len(content))
        content = content[:at] + new + content[at + lost :]
    (tmp_path / "t.csv").write_bytes(content)
    try:
        found = read_table(tmp_path, "kind", tmp_path / "t.csv", NAMES)
    except DataError as error:
        assert "t.csv" in str(error)
    else:
        assert len(found.classes) == len(NAMES)
