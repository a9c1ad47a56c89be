"""Every promise of tests/faults/README.md names tests that are there."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
ROWS = [line for line in (TESTS / "faults/README.md").read_text().splitlines() if re.match(r"\| \d+ \|", line)]


def test_there_are_forty():
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, 41))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_its_proofs_are_there(row):
    proofs = re.findall(r"`([\w/]+\.py)::(\w+)`", row.split("|")[-2])
    assert proofs
    for file, name in proofs:
        assert re.search(rf"(def|class) {name}\(", (TESTS / file).read_text(), re.MULTILINE), f"{file}::{name}"
