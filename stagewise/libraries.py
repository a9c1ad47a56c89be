"""Our version, and the libraries that we stand on: loaded where they are used, and what is said where one does not."""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from stagewise.errors import StagewiseError

VERSION = "0.1.0"  # of stagewise


class Library(NamedTuple):
    """An installed library that parts of stagewise stand on."""

    module: str  # as it is imported
    package: str  # as it is installed
    use: str  # what does not work without it
    extra: str = ""  # of stagewise, which installs it; "" where stagewise itself needs it


LIBRARIES = (
    Library("torch", "torch", "everything"),
    Library("torchaudio", "torchaudio", "resampling, MFCC features and the download of LibriSpeech"),
    Library("torchvision", "torchvision", "images and the download of STL-10"),
    Library("zarr", "zarr", "stores"),
    Library("numcodecs", "numcodecs", "stores"),
    Library("google_crc32c", "google-crc32c", "stores"),
    Library("numpy", "numpy", "everything"),
    Library("soundfile", "soundfile", "audio files"),
    Library("PIL", "pillow", "image files"),
    Library("safetensors.torch", "safetensors", "weights"),
    Library("sklearn.datasets", "scikit-learn", "the data set digits", "digits"),
    Library("espeakng_loader", "espeakng-loader", "synthetic speech", "speech"),
    Library("matplotlib.figure", "matplotlib", "report", "report"),
    Library("pocketsphinx", "pocketsphinx", "data align", "align"),
    Library("tensorboard.summary", "tensorboard", "--tensorboard", "tensorboard"),
    Library("pyarrow.parquet", "pyarrow", "embed --out FILE.parquet", "parquet"),
    Library("onnx", "onnx", "export --onnx", "onnx"),
    Library("onnxscript", "onnxscript", "export --onnx", "onnx"),
    Library("onnxruntime", "onnxruntime", "export --onnx", "onnx"),
)
_OF_TORCH = ("torch", "torchaudio", "torchvision")  # built for each other: where one fails, the versions do not agree


class LibraryError(StagewiseError):
    """An installed library cannot be loaded (exit code 1)."""


def load(module: str) -> ModuleType:
    """Import a module of a library that is loaded only where it is used.

    Args:
        module: of one of `LIBRARIES`, such as "torchaudio.transforms".

    Raises:
        LibraryError: it is not installed, or does not load; both versions are named, and what to type.
    """
    try:
        return import_module(module)
    except Exception as error:  # a library whose shared objects do not fit raises anything: OSError, RuntimeError, …
        raise LibraryError(broken(module, error)) from error


def broken(module: str, error: BaseException) -> str:
    """Say which library does not load, what it is needed for, and what to type."""
    name = module.partition(".")[0]
    library = next((each for each in LIBRARIES if each.module.partition(".")[0] == name), None)
    package = library.package if library else name
    what = installed_version(package)
    if what is None:
        problem = f"{package} is not installed"
    else:
        beside = f" beside torch {installed_version('torch')}" if name in _OF_TORCH[1:] else ""
        problem = f"{package} {what} cannot be loaded{beside} ({type(error).__name__}: {_first_line(error)})"
    if library:
        problem += f"; it is needed for {library.use}" if library.use != "everything" else ""
    if library and library.extra:
        return f"{problem}. Type `pip install 'stagewise[{library.extra}]'`, then the same command again."
    if name in _OF_TORCH:
        return f"{problem}. Type `pip install --upgrade {' '.join(_OF_TORCH)}`, then the same command again."
    return f"{problem}. Type `pip install --force-reinstall {package}`, then the same command again."


def failed_import(error: BaseException) -> str | None:
    """Return the module whose import raised an error, the outermost one outside stagewise; None if none did."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__"))
        if frame.f_code.co_name == "<module>" and name.partition(".")[0] not in ("stagewise", "__main__", "runpy"):
            return name
    if isinstance(error, ImportError) and error.name and error.name.partition(".")[0] != "stagewise":
        return error.name
    return None


def check(libraries: Iterable[Library] = LIBRARIES) -> dict[Library, str | None]:
    """Import each library and return what is wrong with it, in words, or None; an extra may be missing.

    Args:
        libraries: those to import.
    """
    found: dict[Library, str | None] = {}
    for library in libraries:
        found[library] = None
        if library.extra and installed_version(library.package) is None:
            continue
        try:
            load(library.module)
        except LibraryError as error:
            found[library] = str(error)
    return found


def installed_version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    from importlib.metadata import PackageNotFoundError, version  # takes longer than all the rest of --help

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0].removesuffix(".")
