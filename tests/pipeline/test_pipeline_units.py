"""Sizes and durations as people write them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagewise.pipeline.wording import parse_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("3 GiB", 3 * 1024**3),
        ("64MiB", 64 * 1024**2),
        ("1.5 GB", 1_500_000_000),
        ("200 gib", 200 * 1024**3),
        (" 7 kB ", 7000),
        ("2 TiB", 2 * 1024**4),
        ("1 B", 1),
        (12345, 12345),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10 min", 600.0), ("30 s", 30.0), ("2 h", 7200.0), ("1.5 h", 5400.0), (90, 90.0), ("0 s", 0.0)],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "3",
        "3 GX",
        "GiB",
        "-3 GiB",
        "3 GiB extra",
        "٣ GiB",
        True,
        1.5,
        0,
        -1,
        2**63,
        [],
        "9" * 15 + " TiB",
        "0.1 B",
    ],
)
def test_what_is_no_size_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match=re.escape('is not a size: write "3 GiB"')):
        parse_bytes(value)


@pytest.mark.parametrize("value", ["", "10", "10 minutes", "-1 s", -1, float("nan"), float("inf"), True, None])
def test_what_is_no_duration_is_refused_with_an_example(value: object) -> None:
    with pytest.raises(ValueError, match=re.escape('is not a duration: write "10 min"')):
        parse_duration(value)


@given(st.integers(1, 10**6), st.sampled_from([("KiB", 1024), ("MiB", 1024**2), ("MB", 10**6), ("B", 1)]))
def test_a_size_is_its_number_times_its_unit(number: int, unit: tuple[str, int]) -> None:
    assert parse_bytes(f"{number} {unit[0]}") == number * unit[1]
