"""Random damage to recordings and images, and what an independent look at the bytes says that is in them."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable
from functools import cache

import numpy as np
import soundfile
from PIL import Image, ImageFile

RATE = 16_000
SOUNDS = {
    "wav": ("WAV", "PCM_16"), "wave": ("WAVEX", "PCM_24"), "adpcm.wav": ("WAV", "MS_ADPCM"),
    "ulaw.wav": ("WAV", "ULAW"), "rf64": ("RF64", "PCM_16"), "w64": ("W64", "FLOAT"), "aiff": ("AIFF", "PCM_16"),
    "aifc": ("AIFF", "ALAW"),
    "caf": ("CAF", "PCM_16"), "alac.caf": ("CAF", "ALAC_16"), "au": ("AU", "PCM_16"), "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"), "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III"),
}  # fmt: skip
PICTURES = {
    "png": ("PNG", {}), "16.png": ("PNG", {}), "1.png": ("PNG", {}), "p.png": ("PNG", {}), "jpg": ("JPEG", {}),
    "jfif": ("JPEG", {"progressive": True}), "cmyk.jpg": ("JPEG", {}), "bmp": ("BMP", {}), "webp": ("WEBP", {}),
    "tif": ("TIFF", {}), "lzw.tif": ("TIFF", {"compression": "tiff_lzw"}), "16.tif": ("TIFF", {}),
    "zip.tif": ("TIFF", {"compression": "tiff_deflate"}), "jpeg.tif": ("TIFF", {"compression": "jpeg"}),
}  # fmt: skip


@cache
def sound(kind: str, number: int) -> bytes:
    """A recording of noise that comes and goes."""
    container, subtype = SOUNDS[kind]
    rng = np.random.default_rng(number)
    length = (3000, 20_000, 60_000)[number % 3]
    loudness = np.repeat(10 ** rng.uniform(-4, -0.7, length // 1000), 1000)
    samples = (rng.standard_normal(length) * loudness).clip(-1, 1)
    buffer = io.BytesIO()
    options = {"bitrate_mode": "VARIABLE", "compression_level": 0.5} if kind == "mp3" and number % 2 else {}
    soundfile.write(buffer, samples, RATE, subtype, format=container, **options)
    return buffer.getvalue()


@cache
def picture(kind: str, number: int) -> bytes:
    """An image of noise and ramps."""
    rng = np.random.default_rng(number)
    side = (24, 40, 90)[number % 3]
    ramp = np.add.outer(np.arange(side), 2 * np.arange(side + 7))[:, :, None] % 256
    image = Image.fromarray((ramp + rng.integers(0, 40, (side, side + 7, 3))).clip(0, 255).astype(np.uint8))
    first = kind.split(".")[0]
    if first == "16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif first in ("1", "p", "cmyk"):
        image = image.convert({"1": "1", "p": "P", "cmyk": "CMYK"}[first])
    buffer = io.BytesIO()
    container, options = PICTURES[kind]
    image.save(buffer, container, **options)
    return buffer.getvalue()


def mutate(kind: str, make: Callable[[str, int], bytes], rng: random.Random) -> tuple[bytes, str]:
    """Harm a file, or change what harms nothing; return it and what was done."""
    content, done = make(kind, rng.randrange(6)), []
    for _ in range(rng.choice((1, 1, 1, 2))):
        way = rng.choice(WAYS)
        content = way(content, kind, make, rng)
        done.append(way.__name__.removeprefix("_"))
    return content, ", ".join(done)


Make = Callable[[str, int], bytes]


def _cut(content: bytes, kind: str, make: Make, rng: random.Random) -> bytes:
    return content[: max(1, int(len(content) * rng.choice((rng.random(), 0.999, 0.5))) - rng.choice((0, 1, 2)))]


def _joined(content: bytes, kind: str, make: Make, rng: random.Random) -> bytes:
    return content + make(kind, rng.randrange(6))


def _bytes(content: bytes, kind: str, make: Make, rng: random.Random) -> bytes:
    harmed = bytearray(content)
    for _ in range(rng.choice((1, 1, 4))):
        at = rng.randrange(min(len(harmed), 64) if rng.random() < 0.5 else len(harmed))
        harmed[at] = rng.choice((0, 255, harmed[at] ^ 1 << rng.randrange(8), rng.randrange(256)))
    return bytes(harmed)


def _size(content: bytes, kind: str, make: Make, rng: random.Random) -> bytes:
    """Write another number over four bytes of the beginning, where sizes are."""
    harmed = bytearray(content)
    at = 2 * rng.randrange(min(len(harmed), 100) // 2)
    number = rng.choice((0, 1, len(content), len(content) - 8, len(content) // 2, 2 * len(content), 2**31, 2**32 - 1))
    harmed[at : at + 4] = struct.pack(rng.choice("<>") + "I", number)
    return bytes(harmed)


def _data_size(content: bytes, kind: str, make: Make, rng: random.Random) -> bytes:
    at = content.find(b"data")
    if content[:4] != b"RIFF" or at < 0:
        return _size(content, kind, make, rng)
    said = struct.unpack("<I", content[at + 4 : at + 8])[0]
    number = rng.choice((0, said // 2, said - 400, said + 44, said + 400, 2 * said, 2**32 - 1)) % 2**32
    return content[: at + 4] + struct.pack("<I", number) + content[at + 8 :]


def _gone(content: bytes, kind: str, make: Make, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + content[at + rng.choice((1, 100, 1000)) :]


def _inserted(content: bytes, kind: str, make: Make, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + rng.choice((b"\0", b"\xff", rng.randbytes(40))) * rng.choice((1, 30)) + content[at:]


def _behind(content: bytes, kind: str, make: Make, rng: random.Random) -> bytes:
    return content + rng.choice((b"TAG".ljust(128), bytes(600), rng.randbytes(3000), b"\n", b"LIST\4\0\0\0INFO"))


def _before(content: bytes, kind: str, make: Make, rng: random.Random) -> bytes:
    return rng.choice((b"ID3\4\0\0\0\0\2\0" + bytes(256), b"\0", b"\xef\xbb\xbf", rng.randbytes(20))) + content


def _headless(content: bytes, kind: str, make: Make, rng: random.Random) -> bytes:
    """Take the first frame of an MP3 away, or some other beginning."""
    after = content.find(content[:2], 4) if kind == "mp3" else rng.choice((4, 44, 100))
    return content[max(1, after) :] or b"x"


def _closed(content: bytes, kind: str, make: Make, rng: random.Random) -> bytes:
    return _cut(content, kind, make, rng) + (b"\xff\xd9" if content[:2] == b"\xff\xd8" else content[-12:])


def _other(content: bytes, kind: str, make: Make, rng: random.Random) -> bytes:
    """What another suffix would be right for."""
    return make(rng.choice(list(SOUNDS if make is sound else PICTURES)), rng.randrange(6))


WAYS = [_cut, _cut, _joined, _joined, _bytes, _bytes, _size, _data_size, _gone, _inserted, _behind, _before,
        _headless, _closed, _other]  # fmt: skip


def least_samples(content: bytes) -> int:
    """Count samples per channel that are in a file, for a walk that believes no header's count; 0 if it cannot."""
    if content[:4] == b"OggS":
        return _granules(content)
    if content[:2] in (b"\xff\xfb", b"\xff\xf3", b"\xff\xe3", b"\xff\xfa", b"\xff\xf2") or content[:3] == b"ID3":
        return _frames(content)
    return 0


def _granules(content: bytes) -> int:
    """Add up where the streams of an Ogg end."""
    ends: list[int] = []
    at, opus = 0, False
    while (at := content.find(b"OggS", at)) >= 0 and at + 27 <= len(content):
        granule = struct.unpack("<q", content[at + 6 : at + 14])[0]
        if content[at + 5] & 2:
            ends.append(0)
            opus = b"OpusHead" in content[at : at + 60]
        if granule >= 0 and ends:
            ends[-1] = granule // 3 if opus else granule  # of 48,000 samples per second, recorded at 16,000
        at += 4
    return sum(ends)


def _frames(content: bytes) -> int:
    """Count the frames of an MPEG-2 layer III stream of 16,000 samples per second, each followed by another one."""
    kilobits = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)

    def size(at: int) -> int:
        head = content[at : at + 4]
        if len(head) < 4 or head[:2] not in (b"\xff\xf3", b"\xff\xf2") or head[2] >> 4 in (0, 15) or head[2] & 12 != 8:
            return 0
        return 72_000 * kilobits[head[2] >> 4] // RATE + (head[2] >> 1 & 1)

    at, count = 0, 0
    while at < len(content):
        here = size(at)
        if here and (at + here == len(content) or size(at + here)):
            count, at = count + 1, at + here
        else:
            at += 1
    return 576 * count


def pillow(content: bytes) -> Image.Image | None:
    """What Pillow makes of an image, None if it complains."""
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            return image.copy()
    except Exception:  # it raises nearly anything
        return None
