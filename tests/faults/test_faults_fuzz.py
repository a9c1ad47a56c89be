"""Random damage to pipeline files and to runs ends in words, and never with 0 and other bytes."""

import subprocess
import sys
from pathlib import Path

import pytest


def fuzz(*arguments):
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=290, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 violations" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("--files", "150"), ("--runs", "15")], ids=lambda a: a[0][2:])
def test_a_sample_of_mutations(arguments):
    fuzz(*arguments)


def test_a_sample_of_damaged_recordings_images_and_tables_is_right_or_refused_by_name():
    fuzz("--sounds", "40", "--pictures", "40", "--tables", "60")
