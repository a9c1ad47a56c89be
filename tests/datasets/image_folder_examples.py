"""Folders of made-up images, images as bytes, and what of them a data set is to give."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from image_examples import picture, save
from PIL import Image

SMALL = {"patch": 8, "stride": 4, "crop": 16}
FILES = ["cat/a.png", "cat/deep/b.PNG", "cat/c.bmp", "dog/d.tif", "dog/e.tiff", "dog/f.png", "g.png"]


def fill(root: Path, files=FILES) -> Path:
    for number, name in enumerate(files):
        save(root / name, picture(number, 20 + number, 24))
    return root


def luma(pixels):
    """Gray as ITU-R 601-2 weighs it."""
    return pixels.astype(np.float64) @ [0.299, 0.587, 0.114]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def encoded(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture(0, 64, 64)).save(buffer, kind, **options)
    return buffer.getvalue()
