"""The data sets that come with the program: what they are, how large, and what they need; and fetching them."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path
from typing import Any

from stagewise.datasets import SHORT_NAMES
from stagewise.datasets.base import Dataset
from stagewise.datasets.librispeech import SUBSETS
from stagewise.errors import ConfigError, DiskFull
from stagewise.pipeline.targets import resolve
from stagewise.text import bytes_text, seconds_text

NEEDS = {
    "librispeech": "`stagewise data fetch librispeech`, or any folder in its layout",
    "audio-folder": "a folder: `stagewise init FOLDER`",
    "synthetic-speech": "the extra `speech` (pip install 'stagewise[speech]'); spoken when it is first used",
    "stl10": "`stagewise data fetch stl10`",
    "image-folder": "a folder: `stagewise init FOLDER`",
    "digits": "nothing: 1,797 images that come with scikit-learn",
}
# Bytes to download, as the archives' servers say.
ARCHIVES = {
    "train-clean-100": 6_387_309_499,
    "train-clean-360": 23_049_477_885,
    "train-other-500": 30_593_501_606,
    "dev-clean": 337_926_286,
    "dev-other": 314_305_928,
    "test-clean": 346_663_984,
    "test-other": 328_757_843,
    "stl10": 2_640_397_119,
}
ROOTS = {"librispeech": "data", "stl10": "data/stl10"}  # where the shipped pipelines look for them


def built_in() -> list[dict[str, Any]]:
    """Return the built-in data sets, JSON-able: name, what it is, sizes by subset ("" where there is one), needs."""
    found = []
    for name in SHORT_NAMES:
        kind = resolve(name, Dataset, SHORT_NAMES, "data")
        what = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
        choices: list[dict[str, Any]] = [{"subset": subset} for subset in SUBSETS] if name == "librispeech" else [{}]
        sizes = {}
        for arguments in choices:
            size = kind.expected(**arguments)
            if size is not None:
                seconds = size.samples / 16_000 if size.crop is None else None
                sizes[arguments.get("subset", "")] = {
                    "items": size.items,
                    "seconds": seconds,
                    "classes": dict(size.classes),
                    "source": size.source,
                    "download_bytes": ARCHIVES.get(arguments.get("subset", name)),
                }
        found.append({"name": name, "what": what, "sizes": sizes, "needs": NEEDS[name]})
    return found


def size_words(subset: str, size: dict[str, Any]) -> str:
    """Write one of the sizes of `built_in` in a line."""
    parts = [f"{size['items']:,} items"]
    if size["seconds"] is not None:
        parts.append(seconds_text(size["seconds"]))
    parts += [f"{count:,} of label `{label}`" for label, count in size["classes"].items()]
    if size["download_bytes"]:
        parts.append(f"{bytes_text(size['download_bytes'])} to download")
    return f"{subset}: {', '.join(parts)}" if subset else ", ".join(parts)


def fetch(name: str, root: Path, subset: str | None) -> Dataset:
    """Download a data set through its own class, unless it is there, and look at all of its files.

    Raises:
        ConfigError: it has no such subset.
        DataError: it cannot be downloaded, or is not whole.
        DiskFull: there is no room for the archive and what is unpacked from it.
    """
    kind = resolve(name, Dataset, SHORT_NAMES, "data")
    arguments: dict[str, Any] = {"root": str(root), "download": True}
    if name == "librispeech":
        if subset not in SUBSETS:
            raise ConfigError(f"--subset is {subset!r}: type one of {', '.join(SUBSETS)}.")
        arguments["subset"] = subset
        there = any((root / folder / subset).is_dir() for folder in ("", "LibriSpeech"))
    elif subset is not None:
        raise ConfigError(f"{name} has no subsets: leave --subset out.")
    else:
        there = kind.is_there(**arguments)
    if not there:
        _make_room(root, 2 * ARCHIVES[subset or name])
    return kind(**arguments)


def _make_room(root: Path, needed: int) -> None:
    place = root.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < needed:
        raise DiskFull(
            f"the archive and what is unpacked from it take {bytes_text(needed)}, and {root} has "
            f"{bytes_text(free)} free: make room, or name another disk with --root."
        )
