"""Folders of images whose sub-folders are their classes, as torchvision's ImageFolder takes them.

Shape suffixes: N images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stagewise.datasets.audio_files import words_of_twins
from stagewise.datasets.bad_items import Policy, check_policy
from stagewise.datasets.base import BadItem
from stagewise.datasets.files import find_files
from stagewise.datasets.image_files import SUFFIXES, Numbers, Pixels, Preprocessing, read_pixels
from stagewise.datasets.images import TEST, TRAIN, UNLABELLED, Images, find_twins, scan_images
from stagewise.datasets.labels import (
    TEST_FRACTION,
    ItemLabels,
    hash_split,
    read_split_lists,
    words_of_fraction,
    words_of_unlisted,
)
from stagewise.datasets.names import Names
from stagewise.datasets.tables import read_labels
from stagewise.errors import ConfigError, DataError
from stagewise.text import counted

PER_IMAGE, PER_PIXEL = 5e-4, 1e-8  # seconds to open an image, and to decode a pixel of it
PARTS = {"": TRAIN, "test": TEST, "unlabelled": UNLABELLED}


class ImageFolder(Images):
    """PNG, JPEG, BMP, WebP and TIFF images with the label `class`: the first folder below the root.

    An image's key is its path below `root`, with slashes; those of the other two folders begin with `test//` or
    `unlabelled//`. Names that begin with a dot are left out.

    Args:
        root: the folder of the classes' folders.
        test: a folder like it, whose images are for testing.
        unlabelled: a folder of images to train on without labels, beside those of `root`.
        splits: `{train = "…", test = "…"}`, files of one path below `root` a line, with or without the suffix.
        test_fraction: fraction of every class for testing where there is neither `test` nor `splits`.
        size: resize images until their short side has so many pixels.
        bad_items: "error", or "skip" to leave unusable files out, up to 1 %; 0.05: up to 5 %; 10: up to ten.
        patch: pixels of a patch's side; 0 makes one row of an image, its crop.
        stride: pixels from one patch to the next.
        crop: pixels of a training crop's side; smaller images are not trained on.
        grayscale: one channel in the place of three.
        mean: subtracted from pixels in [0, 1]: one number, or one a channel.
        std: divides them, likewise.
        flip: mirror half of the training crops.
        views: 2 adds every image's mirror image as an item.
        labels: further ones by name: "folder:2" (the second folder below the root), a pattern of the files' names,
            "{plate}_{well}_*.png", or a table, .csv or .tsv, with the columns `file`, or `folder`, and the name.

    Raises:
        ConfigError: an argument is out of range, or two do not fit each other.
        DataError: there are no images, files are bad, or a split list does not fit.
    """

    label_sources = (
        'the first folder of a file below data.root gives `class`, data.labels = { NAME = "TABLE.csv" } any other'
    )

    def __init__(
        self,
        root: str,
        test: str | None = None,
        unlabelled: str | None = None,
        splits: Mapping[str, str] | None = None,
        test_fraction: float = TEST_FRACTION,
        size: int | None = None,
        bad_items: Policy = "error",
        patch: int = 16,
        stride: int = 8,
        crop: int = 64,
        grayscale: bool = True,
        mean: Numbers | None = None,
        std: Numbers | None = None,
        flip: bool = True,
        views: int = 1,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        how = Preprocessing(patch, stride, crop, grayscale, mean, std, flip, views)
        check_policy(bad_items)
        if size is not None and (type(size) is not int or size < 1):
            raise ConfigError(f"data.size is {size!r}: set it to a whole number of pixels.")
        if not 0 <= test_fraction < 1:
            raise ConfigError(f"data.test_fraction is {test_fraction}: set it to 0 or more and less than 1.")
        if test is not None and splits is not None:
            raise ConfigError("data.test and data.splits both say what is for testing: take one of them away.")
        if labels is not None and (not isinstance(labels, Mapping) or "class" in labels):
            raise ConfigError(
                'data.labels must be a table, as labels = { plate = "plates.csv" }; `class` comes from the folders.'
            )
        self._folders = {"": Path(root)} | {
            name: Path(folder) for name, folder in (("test", test), ("unlabelled", unlabelled)) if folder is not None
        }
        _refuse_nested(self._folders)

        keys, refused, listed, notes, twins = _list(self._folders, splits)
        found = scan_images(keys, [self._path(key) for key in keys], how, size, bad_items, refused)
        names = [keys[item] for item in found.items]
        classes = ItemLabels.from_names([_class(name) for name in names])
        same = {name.replace("//", "/"): other.replace("//", "/") for name, other in twins.items()}
        below = Names([key.replace("//", "/") for key in keys], same).only(found.items)
        within = Names([key.rpartition("//")[2] for key in keys]).only(found.items)
        tables = {name: read_labels(Path(root), name, source, below, within) for name, source in (labels or {}).items()}
        parts_N = np.array([PARTS[name.rpartition("//")[0]] for name in names], np.int8)
        if listed is not None:
            parts_N[[name in listed for name in names]] = TEST
        elif test is None:
            own = np.flatnonzero(parts_N == TRAIN)
            groups = classes if classes.names else next(iter(tables.values()), classes)
            chosen = hash_split([names[item] for item in own], groups.classes[own].tolist(), test_fraction)
            parts_N[own[chosen]] = TEST
        else:
            _refuse_strange(classes, parts_N, test)
        super().__init__(names, found.sizes, parts_N, classes, how, found.bytes.tobytes())
        for name, table in tables.items():
            self.labels[name] = replace(table, classes=np.repeat(table.classes, views))
        self.bad = found.bad
        beside = "data.splits" if splits is not None else "data.test" if test is not None else None
        self.notes = [*words_of_fraction(test_fraction, beside), *notes, *found.notes]
        self._short = size
        self.reading_seconds = PER_IMAGE + PER_PIXEL * found.pixels

    def _path(self, key: str) -> str:
        folder, _, name = key.rpartition("//")
        return f"{self._folders[folder]}/{name}"

    def _pixels(self, image: int) -> Pixels:
        height, width = self._sizes_N2[image].tolist()
        path = self._path(self.keys[image * self.views])
        return read_pixels(path, self._how.grayscale, self._short, (height, width))


def _list(
    folders: Mapping[str, Path], splits: Mapping[str, str] | None
) -> tuple[list[str], list[BadItem], set[str] | None, list[str], dict[str, str]]:
    """Return the keys of all files, those that cannot have one, those listed for testing, what is left out, twins."""
    keys: list[str] = []
    refused: list[BadItem] = []
    notes: list[str] = []
    twins: dict[str, str] = {}
    listed: set[str] | None = None
    for folder, path in folders.items():
        files = find_files(path, SUFFIXES, "image", f"data.{folder or 'root'}")
        same = find_twins(path, files.names)
        names, bad = [name for name in files.names if name not in same], files.refused
        left = [*files.notes(), *words_of_twins(same)]
        notes += [f"data.{folder or 'root'}: {note}" if len(folders) > 1 else note for note in left]
        if folder == "" and splits is not None:
            members = read_split_lists(splits, Names(names, same))
            notes += words_of_unlisted(names, members)
            listed = {names[item] for item in members["test"]}
            names, bad = [names[item] for item in sorted(members["train"] | members["test"])], []
            used = {*names}
            same = {name: other for name, other in same.items() if other in used}
        first = f"{folder}//" if folder else ""
        keys += [first + name for name in names]
        twins |= {first + name: first + other for name, other in same.items()}
        refused += bad
    return keys, refused, listed, notes, twins


def _class(key: str) -> str:
    """Return the first folder of a file below its root; "" where there is none, or where it means nothing."""
    folder, _, name = key.rpartition("//")
    return "" if folder == "unlabelled" else name.rpartition("/")[0].partition("/")[0]


def _refuse_nested(folders: Mapping[str, Path]) -> None:
    """Refuse a folder that lies in another: its images would be in both, and tested after training on them."""
    places = {f"data.{name or 'root'}": folder.resolve() for name, folder in folders.items()}
    for name, place in places.items():
        for other, around in places.items():
            if name != other and place.is_relative_to(around):
                raise ConfigError(f"{name} ({place}) lies in {other} ({around}): name folders that lie apart.")


def _refuse_strange(classes: ItemLabels, parts_N: npt.NDArray[np.int8], test: str) -> None:
    """Refuse test images of a class that there is nothing to learn of."""
    tested, trained = ({*classes.classes[parts_N == part].tolist()} for part in (TEST, TRAIN))
    strange = sorted(tested - trained - {-1})
    if strange:
        raise DataError(
            f"{test} has images of the class '{classes.names[strange[0]]}', of which data.root has none "
            f"({counted(len(strange), 'such class', 'such classes')}): give both folders the same sub-folders."
        )
