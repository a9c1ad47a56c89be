"""Data that may not be read is named; data that may not be written is enough."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from data_files import MAKE, data_folder, run, stagewise_says  # noqa: F401

pytestmark = pytest.mark.usefixtures("no_peaks")


@contextlib.contextmanager
def unprivileged():
    """Be a user to whom permissions matter."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("kind", MAKE)
def test_folders_and_files_without_permission_are_named(monkeypatch, kind):
    text, suffix, make = MAKE[kind]
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is for its user alone
        Path(folder).chmod(0o755)
        monkeypatch.chdir(folder)
        for name in ("a", "b"):
            make(Path("data") / name / f"0{suffix}")
        assert run(text, verb=("plan",))[0] == 0  # and all is imported, wherever that lies
        for path, words in (
            (Path("data/a"), "cannot read data/a (Permission denied): correct"),
            (Path("data"), "cannot read data (Permission denied): correct"),
            (Path(f"data/b/0{suffix}"), f"  data/b/0{suffix}: Permission denied"),
        ):
            mode = path.stat().st_mode
            path.chmod(0)
            with unprivileged():
                code, said = stagewise_says("plan", "x.toml")
            path.chmod(mode)
            assert (code, words in said) == (1, True), said
        monkeypatch.undo()


@pytest.mark.parametrize("kind", MAKE)
def test_data_on_a_read_only_disk(data, kind):
    text, suffix, make = MAKE[kind]
    for number in range(5):
        make(data / f"{number}{suffix}", seed=number)
    mount = shutil.which("mount") and subprocess.run(["mount", "--bind", data, data], capture_output=True, check=False)
    if not mount or mount.returncode:
        pytest.skip("mounting takes root")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", data], check=True)
        with pytest.raises(OSError, match="Read-only"):
            (data / "new").touch()
        assert run(text)[0] == 0
        assert stagewise_says("verify", "run")[0] == 0
        assert stagewise_says("verify", "run", "--data")[0] == 0
    finally:
        subprocess.run(["umount", data], check=True)
