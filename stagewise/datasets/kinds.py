"""Which audio files and images lie below a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stagewise.datasets.audio import SUFFIXES as AUDIO
from stagewise.datasets.base import BadItem
from stagewise.datasets.found_files import find_files
from stagewise.datasets.image_files import SUFFIXES as IMAGES
from stagewise.datasets.twins import find_twins, words_of_twins
from stagewise.errors import ConfigError, DataError

Kind = Literal["audio", "images"]
SUFFIXES: dict[Kind, tuple[str, ...]] = {"audio": AUDIO, "images": IMAGES}


@dataclass(frozen=True)
class Found:
    """What lies below a folder.

    Attributes:
        root: the folder.
        names: the paths in it of the files of every kind.
        refused: those whose names cannot be used.
        twins: recordings that are left out, and those that hold the same.
        notes: what else is left out, in words.
    """

    root: Path
    names: dict[Kind, list[str]]
    refused: dict[Kind, list[BadItem]]
    twins: dict[str, str]
    notes: list[str]

    def count(self, kind: Kind) -> int:
        """Count the files of a kind, with those that cannot be used."""
        return len(self.names[kind]) + len(self.refused[kind])

    @property
    def kinds(self) -> list[Kind]:
        """The kinds that there are, the more frequent one first."""
        return sorted((kind for kind in SUFFIXES if self.count(kind)), key=self.count, reverse=True)


def find(root: Path) -> Found:
    """Find all audio files and images below a folder; names that begin with a dot are left out.

    Raises:
        ConfigError: there is no such folder.
        DataError: it cannot be read, or holds neither.
    """
    if not root.is_dir():
        what = "is a file, no folder" if root.exists() else "is not there"
        raise ConfigError(f"{root} {what}: name the folder that holds the audio files or the images.")
    try:
        files = find_files(root, AUDIO + IMAGES, "audio or image", "FOLDER")
    except DataError as error:
        if isinstance(error.__context__, OSError):  # what the system refused is said already
            raise
        raise DataError(
            f"no audio files ({', '.join(AUDIO)}) and no images ({', '.join(IMAGES)}) below {root}: "
            "name the folder that holds them."
        ) from None
    names: dict[Kind, list[str]] = {
        kind: [name for name in files.names if name.lower().endswith(suffixes)] for kind, suffixes in SUFFIXES.items()
    }
    twins = find_twins(root, names["audio"])
    names["audio"] = [name for name in names["audio"] if name not in twins]
    refused: dict[Kind, list[BadItem]] = {
        kind: [bad for bad in files.refused if bad.key.lower().endswith(suffixes)]
        for kind, suffixes in SUFFIXES.items()
    }
    return Found(root, names, refused, twins, [*files.notes(), *words_of_twins(twins)])
