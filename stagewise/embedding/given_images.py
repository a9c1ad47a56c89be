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
from stagewise.embedding.given_files import Given, Report


class GivenImages(Images):
    """Image files of any size that holds a patch.

    Args:
        paths: files, and folders of them.
        facts: `input` of the run's lock: channels, patches and standardisation.
        short: pixels that short sides are resized to; None leaves them.
        report: told how many files were looked at.

    Raises:
        ConfigError: there are no paths.
        DataError: files cannot be used.
    """

    def __init__(
        self, paths: Sequence[str | Path], facts: Mapping[str, Any], short: int | None, report: Report
    ) -> None:
        channels, side, _ = facts["row_shape"]
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
            headers = given.probed(probe, problem, report)
        sizes_N2 = np.array([resized(header.height, header.width, short) for header in headers], np.int64)
        unlabelled_N = np.full(len(headers), UNLABELLED, np.int8)
        classes = ItemLabels(np.full(len(headers), -1), [])
        super().__init__(given.keys, sizes_N2.reshape(-1, 2), unlabelled_N, classes, cut, b"")
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
