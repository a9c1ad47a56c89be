"""The same bytes whatever the circumstances: reading threads, how the process was started, where, in what language."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

import stagewise
from stagewise.training.feed import Feed

pytestmark = pytest.mark.usefixtures("no_peaks")  # in this process

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def calm(finished):
    return finished / "tiny.toml", tiny.results(finished / "run")


@pytest.mark.parametrize("threads", [1, 4])
def test_threads_that_read(calm, tmp_path, monkeypatch, threads):
    file, expected = calm
    made, true = [], Feed.__init__

    def init(self, source, _=2):
        true(self, source, threads)
        made.append(self.threads)

    monkeypatch.setattr(Feed, "__init__", init)
    stagewise.run(file, run=tmp_path / "run")
    assert set(made) == {threads}
    assert tiny.results(tmp_path / "run") == expected


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_of_either_kind(calm, tmp_path, method):
    """Started from a process of its own: torch computes no gradient in a fork of a process that did."""
    file, expected = calm
    code = (
        "import multiprocessing, sys, stagewise\n"
        "child = multiprocessing.get_context(sys.argv[1]).Process(target=stagewise.run, args=sys.argv[2:])\n"
        "child.start()\nchild.join()\nsys.exit(child.exitcode)"
    )
    env = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-c", code, method, str(file), str(tmp_path / "run")]
    assert subprocess.run(command, env=env, timeout=240, check=False).returncode == 0
    assert tiny.results(tmp_path / "run") == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    "circumstances",
    [
        {"PYTHONHASHSEED": "1", "LC_ALL": "C", "TZ": "Pacific/Kiritimati", "COLUMNS": "40"},
        {"PYTHONHASHSEED": "2", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR", "TZ": "America/New_York", "PYTHONUTF8": "0"},
    ],
)
def test_another_process_folder_hash_seed_language_and_time_zone(calm, tmp_path, circumstances):
    file, expected = calm
    path = os.pathsep.join([str(TESTS), str(Path(stagewise.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-m", "stagewise", "run", str(file), "--run", "elsewhere"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": path, **circumstances}, capture_output=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert tiny.results(tmp_path / "elsewhere") == expected
