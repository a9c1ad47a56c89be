"""Numbers as people read them."""

import pytest

from stagewise.show import bytes_text, clock_text, disk_text, printable, seconds_text


@pytest.mark.parametrize(
    ("count", "memory", "disk"),
    [(0, "0 B", "0 B"), (999, "999 B", "999 B"), (1024, "1.00 KiB", "1.02 kB"), (1.19e12, "1.08 TiB", "1.19 TB")],
)
def test_bytes(count, memory, disk):
    assert (bytes_text(count), disk_text(count)) == (memory, disk)


def test_times():
    assert (clock_text(4), clock_text(620), clock_text(93900)) == ("0:04", "10:20", "26:05:00")
    assert (seconds_text(4.2), seconds_text(200), seconds_text(7500)) == ("4.2 s", "3 min 20 s", "2 h 5 min")


def test_control_characters_are_replaced_but_for_those_of_a_message():
    bad = "\N{REPLACEMENT CHARACTER}"
    assert printable("a\x1b[2J\n\tb\x9b\udc80 é") == f"a{bad}[2J{bad}{bad}b{bad}{bad} é"
    assert printable("a\x1b[2J\n\tb\r", keep="\n\t") == f"a{bad}[2J\n\tb{bad}"
