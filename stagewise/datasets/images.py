"""Images as items: arrays of patches, and files looked at before a run.

Legend: N images, H × W pixels, C channels, R × S grid of patches, P × P pixels of a patch.
"""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt

from stagewise.arrays import Floats, Ints
from stagewise.datasets.bad_items import Policy, judge, looked_at, probe_all
from stagewise.datasets.base import BadItem, Dataset, Keys
from stagewise.datasets.image_files import (
    COLOUR_LOST,
    MAX_PIXELS,
    SUFFIXES,
    TOO_MANY,
    Pixels,
    Preprocessing,
    probe,
    read_pixels,
    resized,
)
from stagewise.datasets.labels import ItemLabels
from stagewise.errors import DataError
from stagewise.text import counted

# What all sets of images share: an image is an item whose rows are its patches, from left to right and downwards.

TRAIN, TEST, UNLABELLED = 0, 1, 2  # parts of a data set


class Images(Dataset):
    """Images of any size, whose patches are the rows; a sub-class says where their pixels are.

    With two views, item 2i is an image and item 2i + 1 its mirror image, with the key `KEY#flip`. They are one
    example: `split` and `pool` name item 2i alone, so that no image is tested twice, or tested by its own mirror.

    Args:
        names: keys of the images.
        sizes_N2: their heights and widths in pixels, none smaller than a row.
        parts_N: whether each is for training, for testing, or without a label.
        classes: the label `class` of each.
        how: how they become rows.
        content: what else decides what their pixels are, for the fingerprint.
    """

    sample_rate = 0
    grids: Ints
    crop: tuple[int, int]

    def __init__(
        self,
        names: Sequence[str],
        sizes_N2: Ints,
        parts_N: npt.NDArray[np.int8],
        classes: ItemLabels,
        how: Preprocessing,
        content: bytes,
    ) -> None:
        self.channels, self.views = how.channels, how.views
        self.mean, self.std = (how.means[0], how.stds[0]) if how.channels == 1 else (how.means, how.stds)
        self.keys = Keys([name + view for name in names for view in ("", "#flip")[: how.views]])
        self.grids = np.repeat([how.grid(*size) for size in sizes_N2.tolist()], how.views, axis=0).reshape(-1, 2)
        self.lengths = self.grids.prod(axis=1)
        self.crop = how.grid(how.crop, how.crop)
        self.labels: dict[str, ItemLabels] = {"class": ItemLabels(np.repeat(classes.classes, how.views), classes.names)}
        self.bad = []
        self._how, self._sizes_N2, self._parts_N, self._content = how, sizes_N2, parts_N, content

    @property
    def row_shape(self) -> tuple[int, int, int]:
        """Shape of a patch, (C, P, P)."""
        return self._how.row_shape

    @property
    def patch(self) -> int:
        """Pixels of a patch's side; 0 where a row is a whole crop."""
        return self._how.patch

    @property
    def stride(self) -> int:
        """Pixels from one patch to the next."""
        return self._how.stride

    @abstractmethod
    def _pixels(self, image: int) -> Pixels:
        """Return an image, uint8 (H, W, C), as writable memory of its own.

        Raises:
            DataError: it cannot be read.
        """

    def image(self, item: int) -> Pixels:
        """Return the pixels that an item's patches are cut from: uint8 (H, W, C).

        Raises:
            DataError: the image cannot be read.
        """
        image, mirrored = divmod(item, self.views)
        pixels_HWC = self._pixels(image)
        return np.ascontiguousarray(pixels_HWC[:, ::-1]) if mirrored else pixels_HWC

    def read(self, item: int, start: int, stop: int) -> Floats:
        """Return patches start to stop of the whole image: float32 (C, stop - start, P, P), standardised.

        Raises:
            DataError: the image cannot be read.
        """
        from stagewise.datasets.augment import centre_crop, patches

        if not 0 <= start <= stop <= self.lengths[item]:
            raise IndexError(f"item {item} has {self.lengths[item]} patches, not {start} to {stop}")
        if start == stop:
            return np.empty((self.channels, 0, *self.row_shape[1:]), np.float32)
        pixels_HWC = self.image(item) if self.patch else centre_crop(self.image(item), self._how)
        width = int(self.grids[item, 1])
        first, last = start // width, -(-stop // width)  # whole rows of the grid
        band_HWC = pixels_HWC[first * self.stride : (last - 1) * self.stride + self._how.side]
        return patches(band_HWC, self._how)[:, start - first * width : stop - first * width]

    def augmented(self, item: int, seed: int) -> Floats:
        """Return the patches of a random training crop: float32 (C, R·S, P, P), standardised.

        The crop lies at any pixel and may be mirrored; both are a pure function of (item, seed).

        Raises:
            DataError: the image cannot be read.
        """
        from stagewise.datasets.augment import patches, random_crop

        if (self._sizes_N2[item // self.views] < self._how.crop).any():
            raise IndexError(f"item {item} is smaller than a training crop")
        return patches(random_crop(self.image(item), self._how, item, seed), self._how)

    def centre(self, item: int) -> Ints:
        """Return which rows of an item are the training crop closest to its centre, int64 (R·S,), in raster order.

        Along a side that is shorter than a crop these are all there are.
        """
        grid, size = self.grids[item].tolist(), self._sizes_N2[item // self.views].tolist()
        places = []
        for there, wanted, pixels in zip(grid, self.crop, size, strict=True):
            # Half of what is left over, to the nearest patch; half-way goes up or left.
            first = (pixels - self._how.crop + self.stride - 1) // (2 * self.stride) if self.patch else 0
            places.append(max(0, first) + np.arange(min(wanted, there), dtype=np.int64))
        rows: Ints = (places[0][:, None] * grid[1] + places[1]).ravel()
        return rows

    def split(self, name: Literal["train", "test"]) -> Ints:
        """Return the items of a split in item order, int64; of two views the first."""
        return self._items(self._parts_N == (TRAIN if name == "train" else TEST))

    def pool(self) -> Ints:
        """Return all items that are not for testing, with a label or without, int64; of two views the first."""
        return self._items(self._parts_N != TEST)

    def fingerprint(self) -> str:
        """Hash keys, sizes, parts, what the pixels are, and every option that changes training."""
        how = self._how
        options = [how.patch, how.stride, how.crop, how.channels, how.means, how.stds, how.flip, how.views]
        digest = hashlib.sha256(json.dumps(options).encode())
        digest.update("\n".join(self.keys).encode())
        for part in (self._sizes_N2.tobytes(), self._parts_N.tobytes(), self._content):
            digest.update(part)
        return digest.hexdigest()

    def _items(self, chosen_N: npt.NDArray[np.bool_]) -> Ints:
        return np.flatnonzero(chosen_N).astype(np.int64) * self.views


# The same image in two files, as `a.png` and `a.jpg`: one item, or its twin would be tested after training on it.

ALIKE = 0.98  # correlation of the greys of two encodings at least: an image and its mask have less
BLOCKS, OFF = 16, 16  # a side of what is compared, averaged; and how much its greys may differ, of 255
LOSSY = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp")


def find_twins(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Return which files show what the one beside it shows that has its name, but for the suffix: that, by their names.

    The taken one is the one whose suffix comes first among those that are read.

    Args:
        root: the folder.
        names: the files in it.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(str(PurePosixPath(name).with_suffix("")), []).append(name)
    twins: dict[str, str] = {}
    for group in groups.values():
        group.sort(key=lambda name: (SUFFIXES.index(PurePosixPath(name).suffix.lower()), name))
        taken: list[str] = []
        for name in group:
            found = next((other for other in taken if _same(f"{root}/{name}", f"{root}/{other}")), None)
            if found is None:
                taken.append(name)
            else:
                twins[name] = found
    return twins


def _same(*paths: str) -> bool:
    first, second = (probe(path) for path in paths)
    if isinstance(first, str) or isinstance(second, str):  # it is damaged, which is said of it
        return False
    shape = first.height, first.width
    if shape != (second.height, second.width) or first.height * first.width > MAX_PIXELS:
        return False
    try:
        one, other = (read_pixels(path, True, None, shape) for path in paths)
    except DataError:
        return False
    if np.array_equal(one, other):
        return True
    if not any(path.lower().endswith(LOSSY) for path in paths):
        return False
    alike = one.std() and other.std() and np.corrcoef(one.ravel(), other.ravel())[0, 1] >= ALIKE
    return bool(alike) and _most_apart(one, other) <= OFF


def _most_apart(one_HW1: Pixels, other_HW1: Pixels) -> float:
    """Return how far the greys of two images are apart where they are furthest, of averages over small parts."""
    apart_HW = one_HW1[..., 0].astype(np.float64) - other_HW1[..., 0]
    for axis in (0, 1):
        edges = np.linspace(0, apart_HW.shape[axis], min(BLOCKS, apart_HW.shape[axis]) + 1).astype(int)
        apart_HW = np.add.reduceat(apart_HW, edges[:-1], axis) / np.diff(edges).reshape(
            (-1, 1) if axis == 0 else (1, -1)
        )
    return float(np.abs(apart_HW).max())


# Look at every image file before training starts, and decide what happens to the bad ones.

SHOWN = 3  # files of a note that are named


@dataclass(frozen=True)
class ImageScan:
    """The usable files.

    Attributes:
        items: their places in the list that was scanned, int64 (N,).
        sizes: their heights and widths in pixels, after resizing, int64 (N, 2).
        bytes: their bytes on disk, int64 (N,).
        pixels: of a file, before resizing, on average.
        bad: the other files.
        notes: what is to be known of those that can be used.
    """

    items: Ints
    sizes: Ints
    bytes: Ints
    pixels: float
    bad: list[BadItem]
    notes: list[str]


def scan_images(
    keys: Sequence[str],
    paths: Sequence[str],
    how: Preprocessing,
    short: int | None,
    policy: Policy,
    refused: Sequence[BadItem],
) -> ImageScan:
    """Probe every file and see whether it holds a row.

    Args:
        keys: the images' keys.
        paths: their files.
        how: how they become rows.
        short: pixels that their short sides are resized to; None leaves them.
        policy: what happens to bad files.
        refused: files whose very names cannot be used.

    Raises:
        DataError: there are bad files and the policy does not let them be skipped.
    """
    bad, pixels, noted = list(refused), 0, dict[str, list[str]]()
    good: list[tuple[int, int, int, int]] = []
    for item, header in enumerate(probe_all(probe, paths, looked_at("images", len(paths)))):
        if isinstance(header, str):
            bad.append(BadItem(keys[item], paths[item], header))
            continue
        height, width = resized(header.height, header.width, short)
        problem = TOO_MANY if height * width > MAX_PIXELS else how.problem(height, width)
        if problem is not None:
            bad.append(BadItem(keys[item], paths[item], problem))
        else:
            good.append((item, height, width, header.size))
            for note in (*header.notes, *((COLOUR_LOST,) if header.colour and how.grayscale else ())):
                noted.setdefault(note, []).append(keys[item])
            pixels += header.height * header.width
    judge(bad, len(paths) + len(refused), "image", policy)
    columns = np.array(good, np.int64).reshape(-1, 4)
    return ImageScan(
        columns[:, 0], columns[:, 1:3], columns[:, 3], pixels / max(1, len(good)), bad, words_of_notes(noted)
    )


def words_of_notes(noted: Mapping[str, Sequence[str]]) -> list[str]:
    """Say of which files a note is: how many, and the first of them."""
    return [
        f"{counted(len(keys), 'image')} {note}: {', '.join(keys[:SHOWN])}{', …' if len(keys) > SHOWN else ''}"
        for note, keys in noted.items()
    ]
