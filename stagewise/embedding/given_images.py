"""Image files that somebody names, as the items of a data set: cut as a run's own images were.

Shape suffixes: N images.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stagewise.datasets.base import BadItem
from stagewise.datasets.cut import Cut
from stagewise.datasets.image_files import MAX_PIXELS, SUFFIXES, TOO_MANY, Header, Pixels, probe, read_pixels, resized
from stagewise.datasets.images import UNLABELLED, Images
from stagewise.datasets.labels import ItemLabels
from stagewise.embedding.given_files import Given, Report, to_the_end
from stagewise.show import counted


class GivenPixels(Images):
    """Images of any size that holds a patch, cut as a run's own were; the one that was loaded last is kept.

    Args:
        sizes: height and width of every image, by key.
        bad: what was left out.
        facts: `input` of the run's lock: channels, patches, standardisation.
    """

    def __init__(self, sizes: Mapping[str, tuple[int, int]], bad: list[BadItem], facts: Mapping[str, Any]) -> None:
        channels, side, _ = facts["row_shape"]
        crop = facts["reads"].get("crop") if facts["patch"] else side
        cut = Cut(facts["patch"], facts["stride"], crop or side, channels == 1, facts["mean"], facts["std"], flip=False)
        sizes_N2 = np.array(list(sizes.values()), np.int64).reshape(-1, 2)
        unlabelled_N = np.full(len(sizes), UNLABELLED, np.int8)
        classes = ItemLabels(np.full(len(sizes), -1), [])
        super().__init__(list(sizes), sizes_N2, unlabelled_N, classes, cut, b"")
        self.bad = bad
        self._last: tuple[int, Pixels] | None = None

    @abstractmethod
    def _load(self, image: int) -> Pixels:
        """Return an image, uint8 (H, W, C); raises DataError where it cannot be read."""

    def _pixels(self, image: int) -> Pixels:
        """Return what was loaded last, or load it: the pieces of a large image follow each other."""
        last, self._last = self._last, None
        if last is None or last[0] != image:
            del last
            last = image, self._load(image)
        self._last = last
        return last[1]


class GivenImages(GivenPixels):
    """Image files of any size that holds a patch.

    Args:
        paths: files, and folders of them.
        facts: `input` of the run's lock, and how its files are read: channels, patches, standardisation and size.
        report: told how many files were looked at, what is left out, and what is much larger than what was trained on.
        skip: decode every file, and leave out those that cannot be used.

    Raises:
        ConfigError: there are no paths.
        DataError: files cannot be used.
    """

    def __init__(self, paths: Sequence[str | Path], facts: Mapping[str, Any], report: Report, skip: bool) -> None:
        short = facts["reads"]["short_side"]
        given = Given.of(paths, SUFFIXES, "image")

        def problem(header: Header) -> str | None:
            height, width = resized(header.height, header.width, short)
            return TOO_MANY if height * width > MAX_PIXELS else no_patch(height, width, facts)

        found, bad = given.probed(to_the_end(probe, _decode) if skip else probe, problem, report, skip)
        if text := _too_large(list(found.values()), facts["reads"]):
            report("note", text=text)
        super().__init__({key: resized(each.height, each.width, short) for key, each in found.items()}, bad, facts)
        self._short = short

    def _load(self, image: int) -> Pixels:
        height, width = self._sizes_N2[image].tolist()
        return read_pixels(self.keys[image], self._cut.grayscale, self._short, (height, width))


def no_patch(height: int, width: int, facts: Mapping[str, Any]) -> str | None:
    """Say that an image of so many pixels holds no patch; None if it does."""
    (_, side, _), patch = facts["row_shape"], facts["patch"]
    cut = Cut(patch, facts["stride"], side)
    return (
        f"its {height} × {width} pixels hold no patch of {side} × {side}: enlarge it"
        if 0 in cut.grid(height, width)
        else None
    )


def trained_at(reads: Mapping[str, Any]) -> str:
    """Say of what size the images were that stages were trained on; "" where that is not known, or they were none."""
    if not (crop := reads.get("crop")):
        return ""
    short = reads["short_side"]
    return f"crops of {crop} × {crop} pixels" + (f" of images resized to a short side of {short}" if short else "")


def _too_large(headers: Sequence[Header], reads: Mapping[str, Any]) -> str:
    if reads["short_side"] or not (crop := reads.get("crop")):
        return ""
    large = sum(min(header.height, header.width) > 2 * crop for header in headers)
    if not large:
        return ""
    return (
        f"warning: {large:,} of {counted(len(headers), 'image')} {'is' if large == 1 else 'are'} more than twice as "
        f"large as the crops trained on ({crop} pixels): resize them first, until things in them are as large as there."
    )


def _decode(path: str, header: Header) -> None:
    read_pixels(path, False, None, (header.height, header.width))
