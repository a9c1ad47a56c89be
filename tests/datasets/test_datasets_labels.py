"""The published label format is read as it is, and a line that does not fit is named."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagewise.datasets.labels import ItemLabels, frame_count, read_alignment
from stagewise.datasets.names import Names
from stagewise.errors import DataError

LENGTHS = np.array([399, 400, 720])
NAMES = Names([f"1/1/1-1-000{number}.flac" for number in range(3)])


def alignment(tmp_path, text):
    path = tmp_path / "phones.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@given(st.integers(0, 10**6))
def test_frame_count_is_the_number_of_whole_frames(samples):
    assert frame_count(samples) == len(range(0, samples - 399, 160))


def test_reads_the_published_format(tmp_path):
    path = alignment(tmp_path, "1-1-0002 7 0 2\n9-9-9999 40 40\n\n1-1-0001 5\n")
    table = read_alignment(path, NAMES, LENGTHS)
    assert table.of(0) is None
    assert table.of(1).classes.tolist() == [5]
    assert table.of(2).classes.tolist() == [7, 0, 2]
    assert list(table.names) == [str(number) for number in range(8)]


def test_crlf_and_a_byte_order_mark_do_not_matter(tmp_path):
    table = read_alignment(alignment(tmp_path, b"\xef\xbb\xbf1-1-0001 5\r\n1-1-0002 1 2 3\r\n"), NAMES, LENGTHS)
    assert table.of(1).classes.tolist() == [5]
    assert table.of(2).classes.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "1-1-0001 5\n1-1-0002 1 2\n",
            r"phones.txt:2: 1-1-0002 has 2 labels; its 720 samples need 3 \(1 \+ .*set data.phones",
        ),
        ("1-1-0001 5\n\n1-1-0001 5\n", "phones.txt:3: 1-1-0001 is here a second time: delete one"),
        ("1-1-0001\n", "phones.txt:1: 1-1-0001 has 0 labels; its 400 samples need 1"),
        ("1-1-0001 x\n", "phones.txt:1: 1-1-0001: labels must be whole numbers"),
        ("1-1-0001 1.5\n", "phones.txt:1: 1-1-0001: labels must be whole numbers"),
        ("1-1-0001 99999999999999999999\n", "phones.txt:1: 1-1-0001: labels must lie between"),
        ("1-1-0001 -1\n", "phones.txt:1: 1-1-0001: labels must lie between 0 and 32767"),
        ("1-1-0001 40000\n", "labels must lie between 0 and 32767"),
        (
            "9-9-9999 1\n",
            r"none of .*\(1 line names no file: 9-9-9999; the first item is '1/1/1-1-0000.flac'\): set",
        ),
        ("", "none of its utterances is in this data set .it is empty; the first"),
        (b"1-1-0001 5\n\xff\xfe\n", "phones.txt:2: not UTF-8 text: save the file as UTF-8"),
    ],
)
def test_errors_name_the_line(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read_alignment(alignment(tmp_path, text), NAMES, LENGTHS)


def test_a_missing_file_says_what_to_set(tmp_path):
    with pytest.raises(DataError, match=r"none.txt are missing: set data.phones, or remove the phones probe"):
        read_alignment(tmp_path / "none.txt", NAMES, LENGTHS)


def test_item_labels_are_numbered_in_sorted_order():
    labels = ItemLabels.from_names(["b", "", "a", "b"])
    assert labels.names == ["a", "b"]
    assert labels.classes.tolist() == [1, -1, 0, 1]
    assert labels.classes.dtype == np.int64
