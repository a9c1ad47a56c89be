"""Image files that somebody names, as the items of a data set: cut as a run's own images were.

Shape suffixes: N images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stagewise.datasets.cut import Cut
from stagewise.datasets.image_files import MAX_PIXELS, SUFFIXES, TOO_MANY, Header, Pixels, probe, read_pixels, resized
from stagewise.datasets.image_files import without_warnings as without_pillows_warnings
from stagewise.datasets.images import UNLABELLED, Images
from stagewise.datasets.labels import ItemLabels
from stagewise.embedding.given_files import Given, Report, to_the_end
from stagewise.show import counted


class GivenImages(Images):
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
        (channels, side, _), short = facts["row_shape"], facts["reads"]["short_side"]
        cut = Cut(facts["patch"], facts["stride"], side, channels == 1, facts["mean"], facts["std"], flip=False)
        given = Given.of(paths, SUFFIXES, "image")

        def problem(header: Header) -> str | None:
            height, width = resized(header.height, header.width, short)
            if height * width > MAX_PIXELS:
                return TOO_MANY
            if 0 in cut.grid(height, width):
                return f"its {height} × {width} pixels hold no patch of {side} × {side}: enlarge it"
            return None

        with without_pillows_warnings():
            found, bad = given.probed(to_the_end(probe, _decode) if skip else probe, problem, report, skip)
        headers = list(found.values())
        if text := _too_large(headers, facts["reads"]):
            report("note", text=text)
        sizes_N2 = np.array([resized(header.height, header.width, short) for header in headers], np.int64)
        unlabelled_N = np.full(len(headers), UNLABELLED, np.int8)
        classes = ItemLabels(np.full(len(headers), -1), [])
        super().__init__(list(found), sizes_N2.reshape(-1, 2), unlabelled_N, classes, cut, b"")
        self.bad = bad
        self._short = short
        self._last: tuple[int, Pixels] | None = None

    def _pixels(self, image: int) -> Pixels:
        """Return what was decoded last, or decode it: the pieces of a large image follow each other."""
        last, self._last = self._last, None
        if last is None or last[0] != image:
            del last
            height, width = self._sizes_N2[image].tolist()
            last = image, read_pixels(self.keys[image], self._cut.grayscale, self._short, (height, width))
        self._last = last
        return last[1]


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
