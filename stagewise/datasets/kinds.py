"""Which audio files and images lie below a folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stagewise.datasets.audio_folder import SUFFIXES as AUDIO
from stagewise.datasets.base import BadItem
from stagewise.datasets.found_files import find_files
from stagewise.datasets.image_files import SUFFIXES as IMAGES
from stagewise.errors import ConfigError, DataError

Kind = Literal["audio", "images"]
SUFFIXES: dict[Kind, tuple[str, ...]] = {"audio": AUDIO, "images": IMAGES}


@dataclass(frozen=True)
class Found:
    """The files of every kind below a folder: their paths in it, and those whose names cannot be used."""

    root: Path
    names: dict[Kind, list[str]]
    refused: dict[Kind, list[BadItem]]

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
        names, refused = find_files(root, AUDIO + IMAGES, "audio or image", "FOLDER")
    except DataError as error:
        if isinstance(error.__context__, OSError):  # what the system refused is said already
            raise
        raise DataError(
            f"no audio files ({', '.join(AUDIO)}) and no images ({', '.join(IMAGES)}) below {root}: "
            "name the folder that holds them."
        ) from None
    return Found(
        root,
        {kind: [name for name in names if name.lower().endswith(suffixes)] for kind, suffixes in SUFFIXES.items()},
        {kind: [bad for bad in refused if bad.key.lower().endswith(suffixes)] for kind, suffixes in SUFFIXES.items()},
    )
