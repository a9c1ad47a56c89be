"""Look at image files and decode them through Pillow, whatever they are, to 8-bit pixels.

Shape suffixes: H × W pixels, C channels.
"""

from __future__ import annotations

import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, UnidentifiedImageError

from stagewise.datasets.bad_items import AGAIN
from stagewise.errors import DataError

Pixels = npt.NDArray[np.uint8]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")  # no other decoder is tried, whatever a file calls itself
MAX_PIXELS = 2**26  # of an image: 64 million, 192 MiB when decoded
GREY = ("1", "L", "I;16")  # how the names of Pillow's modes without colour begin; "LA" and "La", too
TOO_MANY = f"it has more than the {MAX_PIXELS:,} pixels that are decoded: shrink it"
# How a file ends that is all there; one that ends otherwise is decoded to see.
ENDS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
# How to turn an image that a camera was turned for.
TURNS: Mapping[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)


@dataclass(frozen=True)
class Header:
    """What a file says of itself: pixels from top to bottom and from left to right as shown, bytes on disk, colour."""

    height: int
    width: int
    size: int
    colour: bool


def probe(path: str) -> Header | str:
    """Look at a file's header and at its end; return what is wrong with it if something is."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            return "it is not a regular file"  # opening a pipe would wait for ever
        if status.st_size == 0:
            return "the file is empty"
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                return TOO_MANY
            if picture.mode.startswith(("I", "F")) and not picture.mode.startswith("I;16"):
                return "32-bit pixels have no known range: save it with 8 or 16 bits per channel"
            if picture.mode == "LAB":
                return "its colours are CIELAB: save it as RGB"
            sideways = _orientation(picture) in SIDEWAYS
            if not _ends_as_it_should(path, picture.format):
                picture.load()
            width, height = reversed(picture.size) if sideways else picture.size
            return Header(height, width, status.st_size, not picture.mode.startswith(GREY))
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        return _words(error)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Silence Pillow while files are probed: what it would warn of is refused, or does not matter.

    Filters are the process's own, so this is for the thread that starts the others.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def read_pixels(path: str, grayscale: bool, short: int | None, shape: tuple[int, int]) -> Pixels:
    """Decode an image as it is meant to be shown: uint8 (H, W, C), 1 channel in grayscale and else 3.

    Cameras' orientation is applied, 16 bits are cut to the upper 8, and what is transparent is put on white. Of
    several frames the first is taken.

    Args:
        path: the file.
        grayscale: one channel of luma, else RGB.
        short: pixels that its short side is resized to, bilinearly and without aliasing; None leaves it.
        shape: H and W that it has after that, from when it was probed.

    Raises:
        DataError: the file cannot be decoded, or is not the one that was probed.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            orientation = _orientation(picture)
            shown = _on_white(picture)
        if orientation in TURNS:
            shown = shown.transpose(TURNS[orientation])
        shown = shown.convert("L" if grayscale else "RGB")
    except Exception as error:  # as in `probe`
        raise DataError(f"cannot read {path}: {_words(error)}. {AGAIN}") from error
    if resized(shown.height, shown.width, short) != shape:
        raise DataError(f"{path} has changed since it was looked at. {AGAIN}")
    if short is not None:
        shown = shown.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return pixels_of(shown)


def pixels_of(picture: Image.Image) -> Pixels:
    """Return the pixels of a picture of mode L or RGB: uint8 (H, W, C), of its own memory."""
    return np.array(picture).reshape(picture.height, picture.width, -1)


def resized(height: int, width: int, short: int | None) -> tuple[int, int]:
    """Return the height and width of an image whose short side becomes `short` pixels, as torchvision rounds them."""
    if short is None:
        return height, width
    return short * height // min(height, width), short * width // min(height, width)


def _orientation(picture: ImageFile.ImageFile) -> object:
    """Return the EXIF number for how the camera was held, before anything is decoded; 1 is upright."""
    if picture.format == "TIFF":  # Pillow turns these itself
        return 1
    with suppress(Exception):  # damaged notes do not make an image a bad one
        # The method of the base class: a PNG's own would decode all of it, to look for notes behind the pixels.
        return Image.Image.getexif(picture).get(ExifTags.Base.Orientation)
    return 1


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16"):  # Pillow itself would make white of all that is above 255
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if "transparency" not in picture.info and picture.mode not in ("LA", "PA", "RGBA", "RGBa"):
        picture.load()
        return picture
    above = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)


def _ends_as_it_should(path: str, format_name: str | None) -> bool:
    end = ENDS.get(format_name or "")
    if end is None:
        return False
    with Path(path).open("rb") as file:
        file.seek(-len(end), 2)
        return file.read() == end


def _words(error: Exception) -> str:
    if isinstance(error, Image.DecompressionBombError):
        return TOO_MANY
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image of a known kind, or its header is damaged"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"the decoder says: {str(error).rstrip('.') or type(error).__name__}"
