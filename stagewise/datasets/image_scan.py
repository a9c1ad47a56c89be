"""Look at every image file before training starts, and decide what happens to the bad ones.

Shape suffixes: N images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stagewise.datasets.bad_items import Policy, judge, looked_at, probe_all
from stagewise.datasets.base import BadItem, Ints
from stagewise.datasets.cut import Cut
from stagewise.datasets.image_files import MAX_PIXELS, TOO_MANY, probe, resized
from stagewise.show import counted

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
    keys: Sequence[str], paths: Sequence[str], cut: Cut, short: int | None, policy: Policy, refused: Sequence[BadItem]
) -> ImageScan:
    """Probe every file and see whether it holds a row.

    Args:
        keys: the images' keys.
        paths: their files.
        cut: how they become rows.
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
        problem = TOO_MANY if height * width > MAX_PIXELS else cut.problem(height, width)
        if problem is not None:
            bad.append(BadItem(keys[item], paths[item], problem))
        else:
            good.append((item, height, width, header.size))
            for note in header.notes:
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
