"""The same recording in two files, as `a.flac` and `a.wav`: one item, or its twin would be tested after training on it.

Shape suffixes: T samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path, PurePosixPath

import numpy as np

from stagewise.datasets.audio import BLOCK, SUFFIXES, Floats, Header, Reader, probe, read_samples
from stagewise.errors import DataError
from stagewise.show import counted

STRETCH = 0.5  # seconds from the middle of both that are compared
LAG = 0.1  # seconds that a lossy encoding may shift or lengthen it by
ROUNDED = 1e-4  # what a sample of 16 bits may differ by, of a maximum of 1
ALIKE = 0.2  # correlation of the phases of two encodings at least; of two recordings, it is some hundredths


def find_twins(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Return which files hold what another one of that name, but for its suffix, holds: that one by their names.

    The taken one is the one whose suffix comes first among those that are read: without loss before with it.

    Args:
        root: the folder.
        names: the files in it.
    """
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(PurePosixPath(name).stem, []).append(name)
    twins: dict[str, str] = {}
    for group in groups.values():
        taken: list[str] = []
        heard: dict[str, Header | str] = {}
        several = len({_rank(name) for name in group}) > 1
        for name in sorted(group, key=lambda name: (_rank(name), name)) if several else ():
            for other in taken:
                if _rank(other) != _rank(name) and _same(root, name, other, heard):
                    twins[name] = other
                    break
            else:
                taken.append(name)
    return twins


def words_of_twins(twins: Mapping[str, str]) -> list[str]:
    """Say which files are no items since they are twins of others."""
    if not twins:
        return []
    name, other = min(twins.items())
    files = counted(len(twins), "file")
    return [f"left out, since another file of the same name holds the same: {files}, such as {name} beside {other}"]


def _rank(name: str) -> int:
    return SUFFIXES.index(PurePosixPath(name).suffix.lower())


def _same(root: Path, one: str, other: str, heard: dict[str, Header | str]) -> bool:
    paths = [f"{root}/{name}" for name in (one, other)]
    first, second = (heard.setdefault(path, probe(path)) for path in paths)
    if isinstance(first, str) or isinstance(second, str):
        return False
    if abs(first.samples / first.rate - second.samples / second.rate) > LAG:
        return False
    rate = min(first.rate, second.rate)
    try:
        a_T, b_T = (_middle(path, header, rate) for path, header in zip(paths, (first, second), strict=True))
        if np.array_equal(a_T, b_T):
            return bool((a_T != a_T[:1]).any()) or _equal(paths, first, second)
    except DataError:
        return False  # it is damaged, which is said of it
    size = len(a_T) + len(b_T)
    across = np.fft.rfft(a_T, size) * np.conj(np.fft.rfft(b_T, size))
    # Of every frequency alike: two recordings may share a hum.
    peaks_T = np.abs(np.fft.irfft(across / (np.abs(across) + 1e-12), size))
    lag = int(LAG * rate)
    return bool(max(peaks_T[: lag + 1].max(), peaks_T[-lag:].max()) > max(ALIKE, 8 / np.sqrt(size)))  # of few, chance


def _equal(paths: Sequence[str], first: Header, second: Header) -> bool:
    """Say whether all samples are the same but for rounding: silence in the middle says nothing of the rest."""
    if (first.samples, first.rate, first.channels) != (second.samples, second.rate, second.channels):
        return False
    with closing(Reader(paths[0])) as one, closing(Reader(paths[1])) as other:
        for start in range(0, first.samples, BLOCK):
            stop = min(start + BLOCK, first.samples)
            if not np.allclose(one.read(start, stop), other.read(start, stop), rtol=0, atol=ROUNDED):
                return False
    return True


def _middle(path: str, header: Header, rate: int) -> Floats:
    """Return a stretch from the middle of a file, its channels averaged, at a lower rate by interpolation."""
    half = min(header.samples // 2, int(STRETCH * header.rate / 2))
    samples_T = read_samples(path, header.samples // 2 - half, header.samples // 2 + half).mean(axis=1)
    places_T = np.arange(0, len(samples_T), header.rate / rate)
    return np.asarray(
        np.interp(places_T, np.arange(len(samples_T)), samples_T) if len(samples_T) else samples_T, np.float32
    )
