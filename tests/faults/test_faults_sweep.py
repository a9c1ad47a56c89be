"""Harm at some durable operations, of every kind; `sweep.py` does it at all of them."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_run_survives_harm_of_every_kind():
    script = Path(__file__).with_name("sweep.py")
    done = subprocess.run([sys.executable, str(script), "--every", "150"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    injected, survived = (int(word) for word in done.stdout.splitlines()[-1].split() if word.isdigit())
    assert injected == survived
    assert injected >= 8
