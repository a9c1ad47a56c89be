"""What unprotected.py takes away stands in the package, and what it runs is a proof of that row."""

from pathlib import Path

import pytest
from unprotected import PROTECTIONS

import stagewise

ROWS = (Path(__file__).parent / "README.md").read_text().splitlines()


@pytest.mark.parametrize("protection", PROTECTIONS, ids=lambda protection: protection.file)
def test_a_protection_and_its_proof_are_there(protection):
    assert (Path(stagewise.__file__).parent / protection.file).read_text().count(protection.line) == 1
    (row,) = (row for row in ROWS if row.startswith(f"| {protection.row} |"))
    assert f"`{protection.test}`" in row
