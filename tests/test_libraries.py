"""Libraries that do not load are named, with their versions and what to type; what does not need them works."""

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import tiny
from small_files import wav

from stagewise.datasets.base import Dataset
from stagewise.libraries import LIBRARIES, LibraryError, broken, check, failed_import, load
from stagewise.pipeline.schema import Spec
from stagewise.pipeline.targets import build
from stagewise.registry import DATASETS

REPO = Path(__file__).parents[1]
SHARED_OBJECT = "Could not load this library: lib/libtorchaudio.so"


def fake(folder, name, raises=f"OSError({SHARED_OBJECT!r})"):
    """Put a package in front of the real one whose import fails as that of one built for another torch does."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(f"raise {raises}\n")
    return folder


def stagewise(*arguments, front, cwd):
    path = os.pathsep.join([str(front), str(REPO), str(REPO / "tests")])
    done = subprocess.run(
        [sys.executable, "-m", "stagewise", *map(str, arguments)],
        cwd=cwd, capture_output=True, text=True, timeout=240, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "unforeseen" not in done.stderr
    assert "output cannot be written" not in done.stderr
    return done


def test_every_library_loads_here():
    assert {library.package: problem for library, problem in check().items() if problem} == {}


def test_every_library_that_is_installed_with_stagewise_is_checked():
    import tomllib

    project = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
    extras = [line for extra, lines in project["optional-dependencies"].items() if extra != "test" for line in lines]
    names = {line.partition(">")[0] for line in [*project["dependencies"], *extras] if not line.startswith("stagewise")}
    light = {"click", "rich", "pydantic", "filelock", "psutil"}  # nothing works without them, doctor neither
    assert names - light == {library.package for library in LIBRARIES}


def test_a_run_that_needs_no_resampling_needs_no_torchaudio(tmp_path):
    front = fake(tmp_path / "front", "torchaudio")
    tiny.write_pipeline(tmp_path)
    done = stagewise("run", "tiny.toml", "--until", "one", front=front, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_resampling_without_torchaudio_says_both_versions_and_what_to_type(tmp_path):
    front = fake(tmp_path / "front", "torchaudio")
    for name in "abcd":
        wav(tmp_path / "audio" / f"{name}.wav", 0.5, 22_050)
    text = tiny.TOML[: tiny.TOML.index("[[probe]]")]
    tiny.write_pipeline(tmp_path, text.replace('"tiny:TinySpeech"', '"audio-folder"\nroot = "audio"\nresample = true'))
    done = stagewise("run", "tiny.toml", "--until", "one", front=front, cwd=tmp_path)
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert f"torchaudio {version('torchaudio')} cannot be loaded beside torch {version('torch')}" in message
    assert f"(OSError: {SHARED_OBJECT})" in message
    assert "it is needed for resampling" in message
    assert "Type `pip install --upgrade torch torchaudio torchvision`" in message


@pytest.mark.slow
def test_images_without_torchvision(tmp_path):
    front = fake(tmp_path / "front", "torchvision", "RuntimeError('operator torchvision::nms does not exist')")
    done = stagewise("run", REPO / "pipelines/digits.toml", "--until", "module1", front=front, cwd=tmp_path)
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert f"torchvision {version('torchvision')} cannot be loaded beside torch {version('torch')}" in message
    assert "RuntimeError: operator torchvision::nms does not exist" in message


def test_doctor_names_each_library_that_fails_and_shows_the_rest(tmp_path):
    front = fake(fake(tmp_path / "front", "torchaudio"), "torch", "OSError('libcudart.so.13: cannot open')")
    done = stagewise("doctor", "--json", front=front, cwd=tmp_path)
    assert done.returncode == 1
    facts = json.loads(done.stdout)
    assert facts["torch"] == f"{version('torch')}, does not load"
    assert facts["torchaudio"] == f"{version('torchaudio')}, does not load"
    assert facts["zarr"] == version("zarr")
    assert facts["memory"]
    assert any("libcudart.so.13" in problem for problem in facts["problems"])
    assert "torch" in done.stderr


def test_torch_itself_does_not_load(tmp_path):
    front = fake(tmp_path / "front", "torch", "ImportError('libcudart.so.13: cannot open')")
    done = stagewise("plan", REPO / "pipelines/quickstart.toml", front=front, cwd=tmp_path)
    assert done.returncode == 1
    message = " ".join(done.stderr.split())
    assert f"torch {version('torch')} cannot be loaded (ImportError: libcudart.so.13: cannot open)" in message


def test_an_extra_that_is_not_installed_is_no_problem_until_it_is_used(monkeypatch):
    monkeypatch.setattr("stagewise.libraries.installed_version", lambda _: None)
    parquet = next(library for library in LIBRARIES if library.extra == "parquet")
    assert check([parquet]) == {parquet: None}
    assert broken("pyarrow.parquet", ImportError()) == (
        "pyarrow is not installed; it is needed for embed --out FILE.parquet. "
        "Type `pip install 'stagewise[parquet]'`, then the same command again."
    )


def test_a_library_that_is_not_one_of_ours(monkeypatch):
    with pytest.raises(LibraryError, match="no_such_library is not installed. Type `pip install --force-reinstall"):
        load("no_such_library")


def test_a_failed_import_is_told_from_another_failure(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(fake(tmp_path, "broken_library"))
    with pytest.raises(OSError, match="libtorchaudio") as caught:
        import broken_library  # noqa: F401
    assert failed_import(caught.value) == "broken_library"
    with pytest.raises(OSError, match="No such file") as caught:
        Path("no such file").read_text()
    assert failed_import(caught.value) is None


def test_a_class_of_ours_whose_library_fails_is_no_mistake_of_the_file(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(fake(tmp_path, "sklearn"))
    for name in [each for each in sys.modules if each.partition(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    spec = Spec(target="digits")
    with pytest.raises(LibraryError, match="scikit-learn .* cannot be loaded .*; it is needed for the data set digits"):
        build(spec, Dataset, DATASETS, "net.toml:3")
