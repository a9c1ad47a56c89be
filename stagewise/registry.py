"""Short names of classes: those that are built in, and those that installed packages give as entry points."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from stagewise.errors import ConfigError


class Given(NamedTuple):
    """What an installed package means by a short name."""

    target: str  # "package.module:Class"
    package: str  # name and version


class ShortNames(dict[str, str]):
    """The built-in short names of one kind of class, each of a "package.module:Class".

    Args:
        group: of the entry points in which installed packages give further ones.
        built_in: short name -> "package.module:Class".
    """

    def __init__(self, group: str, built_in: Mapping[str, str]) -> None:
        super().__init__(built_in)
        self.group = group

    def installed(self) -> dict[str, list[Given]]:
        """Return what installed packages mean by further names; nothing of them is imported.

        Raises:
            ConfigError: a package gives a name that is built in, or the entry points cannot be read.
        """
        from importlib.metadata import entry_points  # takes longer than all the rest of --help

        found: dict[str, list[Given]] = {}
        try:
            with without_current_folder():
                for entry in entry_points(group=self.group):
                    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a package"
                    target = entry.value.partition("[")[0].strip()  # extras say nothing here
                    found.setdefault(entry.name, []).append(Given(target, package))
        except Exception as error:  # one damaged package spoils the list of all
            raise ConfigError(
                f"the entry points {self.group} of the installed packages cannot be read "
                f'({type(error).__name__}: {error}): repair them (`pip check`), or write "package.module:Class".'
            ) from error
        for name in sorted(found.keys() & self):
            raise ConfigError(
                f'{found[name][0].package} gives the short name "{name}", which is built in: have it give another, or '
                'uninstall it; "package.module:Class" needs no short name.'
            )
        return found


@contextmanager
def without_current_folder() -> Iterator[None]:
    """Take the current folder off the import path where only `python -m` put it there."""
    path = sys.path[:]
    if path and path[0] in ("", str(Path.cwd())):
        sys.path[:] = path[1:]
    try:
        yield
    finally:
        sys.path[:] = path


MODULES = ShortNames(
    "stagewise.modules",
    {
        "conv1d": "stagewise.modules.audio:Conv1d",
        "gru": "stagewise.modules.audio:GRU",
        "log-mel": "stagewise.modules.audio:LogMel",
        "mfcc": "stagewise.modules.audio:Mfcc",
        "pixelcnn": "stagewise.modules.vision:PixelCNN",
        "resnet": "stagewise.modules.vision:ResNet",
    },
)
OBJECTIVES = ShortNames(
    "stagewise.objectives",
    {
        "cross-entropy": "stagewise.objectives.supervised:CrossEntropy",
        "deep-infomax": "stagewise.objectives.deep_infomax:DeepInfoMax",
        "infonce": "stagewise.objectives.infonce:InfoNCE",
        "infonce-grid": "stagewise.objectives.infonce_grid:GridInfoNCE",
        "predsim": "stagewise.objectives.supervised:PredSim",
    },
)
DATASETS = ShortNames(
    "stagewise.datasets",
    {
        "librispeech": "stagewise.datasets.librispeech:LibriSpeech",
        "audio-folder": "stagewise.datasets.audio_folder:AudioFolder",
        "synthetic-speech": "stagewise.datasets.synthetic_speech:SyntheticSpeech",
        "stl10": "stagewise.datasets.stl10:STL10",
        "image-folder": "stagewise.datasets.image_folder:ImageFolder",
        "digits": "stagewise.datasets.digits:Digits",
    },
)

SCHEDULES = {"warmup-cosine": "stagewise.training.schedule:WarmupCosine"}  # besides those of torch.optim.lr_scheduler
