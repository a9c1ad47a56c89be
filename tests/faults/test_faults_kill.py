"""A few kills of the tiny pipeline; `kill.py` does as many as one likes, of any pipeline."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bytes(tmp_path):
    file = tiny.write_pipeline(tmp_path)
    script = Path(__file__).with_name("kill.py")
    env = {**os.environ, "PYTHONPATH": str(script.parents[1])}
    done = subprocess.run(
        [sys.executable, str(script), str(file), "--kills", "3", "--set", "defaults.train.epochs=25"],
        capture_output=True,
        text=True,
        timeout=280,
        env=env,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills" in done.stdout
    assert "all the same" in done.stdout
