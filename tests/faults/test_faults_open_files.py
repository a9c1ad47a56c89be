"""A run where few files may be open at once."""

import os
import resource

import tiny
from in_process import stagewise


def test_64_open_files_are_enough(finished, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        assert stagewise("run", finished / "tiny.toml", "--run", tmp_path / "run")[0] == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert tiny.results(tmp_path / "run") == tiny.results(finished / "run")


def test_too_few_open_files_are_said(finished, tmp_path):
    """With room for one to five more files: it works, or says what to type; afterwards the run goes on."""
    limits, codes = resource.getrlimit(resource.RLIMIT_NOFILE), []
    for room in range(1, 6):
        free = os.open(os.devnull, os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + room, limits[1]))
        try:
            code, words = stagewise("run", finished / "tiny.toml", "--run", tmp_path / "run")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert code == 0 or (code == 1 and "ulimit -n" in words), words
        codes.append(code)
    assert 1 in codes
    assert stagewise("run", finished / "tiny.toml", "--run", tmp_path / "run")[0] == 0
    assert tiny.results(tmp_path / "run") == tiny.results(finished / "run")
