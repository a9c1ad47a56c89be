"""Numbers as people read them."""

import pytest

from stagewise.text import bytes_text, clock_text, computed_text, counted, printable, seconds_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1024, "1.00 KiB"),
        (999 << 10, "999 KiB"),
        (1000 << 10, "0.98 MiB"),
        (1.19e12, "1.08 TiB"),
    ],
)
def test_bytes(count, text):
    assert bytes_text(count) == text


def test_one_of_a_thing_is_not_several():
    assert [counted(count, "file") for count in (0, 1, 2000)] == ["0 files", "1 file", "2,000 files"]
    assert [counted(count, "file is", "files are") for count in (1, 2)] == ["1 file is", "2 files are"]


def test_times():
    assert (clock_text(4), clock_text(620), clock_text(93900)) == ("0:04", "10:20", "26:05:00")
    assert (seconds_text(4.2), seconds_text(200), seconds_text(7500)) == ("4.2 s", "3 min 20 s", "2 h 5 min")


def test_what_was_chosen_to_compute_with():
    assert computed_text("cpu", 1, {"a": "float32", "b": "float32"}) == "computed on cpu with 1 thread, in float32"
    mixed = {"a": "bfloat16", "b": "float32", "c": "bfloat16"}
    assert computed_text("cuda:1", 8, mixed) == "computed on cuda:1, in bfloat16 (a, c) and float32 (b)"


def test_control_characters_are_replaced_but_for_those_of_a_message():
    bad = "\N{REPLACEMENT CHARACTER}"
    assert printable("a\x1b[2J\n\tb\x9b\udc80 é") == f"a{bad}[2J{bad}{bad}b{bad}{bad} é"
    assert printable("a\x1b[2J\n\tb\r", keep="\n\t") == f"a{bad}[2J\n\tb{bad}"
