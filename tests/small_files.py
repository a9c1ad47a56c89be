"""Small audio files and images of noise."""

import zlib
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image


def wav(path: Path, seconds: float, rate: int = 16_000, channels: int = 1) -> None:
    """Write noise as what the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = _rng(path).standard_normal((int(seconds * rate), channels)) * 0.1
    soundfile.write(path, noise.clip(-1, 1).astype(np.float32), rate)


def png(path: Path, height: int, width: int) -> None:
    """Write an image in colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = _rng(path).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def _rng(path: Path) -> np.random.Generator:
    """Other noise in every file of a folder, the same wherever the folder lies."""
    return np.random.default_rng(zlib.crc32(f"{path.parent.name}/{path.name}".encode()))
