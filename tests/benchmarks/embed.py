"""Files read in the pieces that a network of 512 channels asks for, long and short, in one time a minute."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from report import Table
from timing import Times, interleaved, ratio

from stagewise.frozen.given_files import GivenAudio, GivenImages

AUDIO = {"sample_rate": 16_000, "mean": 0.0, "std": 0.06}
READS = {"short_side": None, "crop": None}
IMAGES = {"row_shape": [1, 16, 16], "patch": 16, "stride": 8, "mean": 0.4, "std": 0.25, "reads": READS}
SAMPLES, OVERLAP, PATCHES = 20_480, 465, 2_000  # of a piece
LENGTHS = {"short": 1, "long": 10}


def silent(*_, **__) -> None:
    pass


def write_file(path: Path, length: int) -> None:
    """A recording of so many minutes, or a photograph of so many times a megapixel."""
    rng = np.random.default_rng(0)
    if path.suffix == ".png":
        Image.fromarray(rng.integers(0, 256, (1_000 * length, 1_000), np.uint8)).save(path)
        return
    with soundfile.SoundFile(path, "w", AUDIO["sample_rate"], 1) as file:
        for _ in range(length):
            file.write(0.1 * rng.standard_normal(60 * AUDIO["sample_rate"]))


def read(path: Path) -> None:
    if path.suffix == ".png":
        data, size, overlap = GivenImages([path], IMAGES, silent, skip=False), PATCHES, 0
    else:
        data, size, overlap = GivenAudio([path], AUDIO, lambda _: None, silent, skip=False), SAMPLES, OVERLAP
    length = int(data.lengths[0])
    for start in range(0, length, size):
        data.read(0, max(0, start - overlap), min(length, start + size))


def reading(folder: Path, suffix: str, runs: int) -> list[object]:
    paths = {name: folder / f"{name}{suffix}" for name in LENGTHS}
    for name, path in paths.items():
        write_file(path, LENGTHS[name])
    times = interleaved({name: (lambda path=path: read(path)) for name, path in paths.items()}, runs, warm=1)
    unit = Times(tuple(seconds * LENGTHS["long"] / LENGTHS["short"] for seconds in times["short"].seconds))
    return [suffix[1:], times["short"], times["long"], ratio(times["long"], unit)]


def main(runs: int = 7) -> list[Table]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [reading(folder, suffix, runs) for suffix in (".flac", ".ogg", ".mp3", ".png")]
    return [
        Table(
            ["file", "1 minute, 1 megapixel", "10 minutes, 10 megapixels", "per unit, long / short"],
            files,
            ["Looked at, opened and read from beginning to end, without a network."],
        )
    ]


if __name__ == "__main__":
    print(*main(int(sys.argv[1]) if sys.argv[1:] else 7), sep="\n\n")
