"""STL-10: 96 × 96 photographs of ten kinds, 13,000 with labels and 100,000 without [1].

[1] Coates, Lee and Ng 2011, "An analysis of single-layer networks in unsupervised feature learning".

Shape suffixes: N images, H × W pixels, C channels.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from stagewise.arrays import Ints
from stagewise.datasets.base import Expected
from stagewise.datasets.image_files import Numbers, Pixels, Preprocessing, pixels_of
from stagewise.datasets.images import TEST, TRAIN, UNLABELLED, Images
from stagewise.datasets.labels import ItemLabels
from stagewise.errors import ConfigError, DataError
from stagewise.libraries import load

SIDE = 96
BYTES = 3 * SIDE * SIDE  # of an image
COUNTS = {"train": 5_000, "test": 8_000, "unlabeled": 100_000}  # as its files are called
CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
DEFAULT_ROOT = "data/stl10"


class STL10(Images):
    """STL-10 with the label `class`: stages train on the unlabelled images, probes on the training images.

    Pixels are read from the published files image by image; nothing is held in memory.

    Args:
        root: the folder that holds, or will hold, `stl10_binary`.
        download: download it (2.46 GiB) if it is not there.
        patch: pixels of a patch's side; 0 makes one row of an image, its crop.
        stride: pixels from one patch to the next.
        crop: pixels of a training crop's side.
        grayscale: one channel in the place of three.
        mean: subtracted from pixels in [0, 1]: one number, or one a channel.
        std: divides them, likewise.
        flip: mirror half of the training crops.
        views: 2 adds every image's mirror image as an item.

    Raises:
        ConfigError: an argument is out of range.
        DataError: the data is missing, incomplete or damaged.
    """

    def __init__(
        self,
        root: str = DEFAULT_ROOT,
        download: bool = True,
        patch: int = 16,
        stride: int = 8,
        crop: int = 64,
        grayscale: bool = True,
        mean: Numbers | None = None,
        std: Numbers | None = None,
        flip: bool = True,
        views: int = 1,
    ) -> None:
        how = _fitting(Preprocessing(patch, stride, crop, grayscale, mean, std, flip, views))
        self._folder = Path(root) / "stl10_binary"
        _provide(Path(root), download)
        counts = list(COUNTS.values())
        names = [f"{name}/{number:06d}" for name, count in COUNTS.items() for number in range(count)]
        parts_N = np.repeat(np.array([TRAIN, TEST, UNLABELLED], np.int8), counts)
        unknown = np.full(COUNTS["unlabeled"], -1)
        classes_N = np.concatenate([self._classes("train"), self._classes("test"), unknown])
        sizes_N2 = np.full((sum(counts), 2), SIDE)
        super().__init__(names, sizes_N2, parts_N, ItemLabels(classes_N, CLASSES), how, b"STL-10")

    @classmethod
    def is_there(cls, **arguments: Any) -> bool:
        """Say whether all of its files lie in the folder."""
        try:
            return not _problems(Path(arguments.get("root", DEFAULT_ROOT)) / "stl10_binary")
        except PermissionError:  # to look for it is for those who then say what is wrong
            return True

    @classmethod
    def expected(cls, **arguments: Any) -> Expected | None:
        """Return the published size, in rows as these arguments cut them.

        Raises:
            ConfigError: an argument is out of range.
        """
        shared = {field.name for field in fields(Preprocessing)}
        how = _fitting(Preprocessing(**{name: value for name, value in arguments.items() if name in shared}))
        rows, columns = how.grid(SIDE, SIDE)
        items = sum(COUNTS.values()) * how.views
        crop = how.grid(how.crop, how.crop)
        return Expected(
            items, items * rows * columns, "published size of STL-10", how.row_shape, crop, {"class": len(CLASSES)}
        )

    def pool(self) -> Ints:
        """Return the unlabelled images, int64; of two views the first."""
        return self._items(self._parts_N == UNLABELLED)

    def _pixels(self, image: int) -> Pixels:
        name, number = self.keys[image * self.views].split("/")
        path = self._folder / f"{name}_X.bin"
        try:
            # Read, not mapped: a map that is kept would be copied, pixels and all, with the data set.
            values = np.fromfile(path, np.uint8, BYTES, offset=int(number) * BYTES)
        except OSError as error:
            raise DataError(f"cannot read {path} ({error.strerror}): check that it is there.") from error
        if len(values) < BYTES:
            raise DataError(f"{path} has been cut short: delete the folder, and type the same command again.")
        pixels_HWC = np.ascontiguousarray(values.reshape(3, SIDE, SIDE).T)  # columns come first in the files
        return pixels_of(Image.fromarray(pixels_HWC).convert("L" if self._how.grayscale else "RGB"))

    def _classes(self, name: str) -> npt.NDArray[np.int64]:
        """Read the classes of a part, which are numbered from 1."""
        path = self._folder / f"{name}_y.bin"
        classes_N = np.fromfile(path, np.uint8).astype(np.int64) - 1
        if not ((classes_N >= 0) & (classes_N < len(CLASSES))).all():
            raise DataError(f"{path} holds classes other than 1 to {len(CLASSES)}: {_REMEDY}")
        return classes_N


_REMEDY = "delete the folder, and type the same command again with data.download = true."


def _fitting(how: Preprocessing) -> Preprocessing:
    if how.crop > SIDE:
        raise ConfigError(f"data.crop is {how.crop}: set it to {SIDE} pixels or less, as images of STL-10 have.")
    return how


def _problems(folder: Path) -> list[str]:
    """Return the published files that are not in a folder, or not with as many bytes."""
    sizes = {f"{name}_X.bin": count * BYTES for name, count in COUNTS.items()}
    sizes |= {f"{name}_y.bin": COUNTS[name] for name in ("train", "test")}
    problems = []
    for name, size in sizes.items():
        path = folder / name
        there = path.stat().st_size if path.is_file() else None
        if there is None:
            problems.append(f"{path} is missing")
        elif there != size:
            problems.append(f"{path} has {there:,} bytes, not {size:,}")
    return problems


def _provide(root: Path, download: bool) -> None:
    """See that the files are there, and download them if asked."""
    try:
        problems = _problems(root / "stl10_binary")
        if problems and download:
            _download(root)
            problems = _problems(root / "stl10_binary")
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"cannot provide STL-10 in {root} ({error}): type the same command again, or download "
            "it in another way and name the folder that holds it as the root."
        ) from error
    if problems:
        raise DataError(
            f"STL-10 is not there: {problems[0]}. Type --set data.root=FOLDER to name the folder that holds "
            "stl10_binary, or --set data.download=true to download it (2.46 GiB)."
        )


def _download(root: Path) -> None:
    """Download and unpack the archive; torchvision checks its published sum before it is unpacked."""
    published, utils = load("torchvision.datasets").STL10, load("torchvision.datasets.utils")
    root.mkdir(parents=True, exist_ok=True)
    utils.download_and_extract_archive(published.url, str(root), filename=published.filename, md5=published.tgz_md5)
