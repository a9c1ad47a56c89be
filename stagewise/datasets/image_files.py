"""Image files: decoded as they were meant to be seen, their pixels cut out.

Legend: C channels, P pixels of a row's side, H × W pixels.
"""

from __future__ import annotations

import io
import logging
import math
import stat
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from stagewise.datasets.bad_items import AGAIN
from stagewise.datasets.quiet_decoders import quietly
from stagewise.errors import ConfigError, DataError

# How images become rows: the arguments of the pipeline file that all sets of images share.

Numbers = float | Sequence[float]

GRAY = ([0.4120], [0.2570])  # mean and deviation of STL-10 in grayscale, with which the published results were made
COLOUR = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # those of ImageNet


@dataclass(frozen=True)
class Preprocessing:
    """How images become rows: the arguments that all sets of images share.

    Attributes:
        patch: pixels of a patch's side; 0 makes one row of an image, its crop.
        stride: pixels from one patch to the next.
        crop: pixels of a training crop's side.
        grayscale: one channel in the place of three.
        mean: subtracted from pixels in [0, 1]: one number, or one a channel; None is STL-10's or ImageNet's.
        std: divides them, likewise.
        flip: mirror half of the training crops.
        views: 2 adds every image's mirror image as an item.

    Raises:
        ConfigError: a number is out of range, or they do not fit each other.
    """

    patch: int = 16
    stride: int = 8
    crop: int = 64
    grayscale: bool = True
    mean: Numbers | None = None
    std: Numbers | None = None
    flip: bool = True
    views: int = 1

    def __post_init__(self) -> None:
        for name, least in (("patch", 0), ("stride", 1), ("crop", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ConfigError(f"data.{name} is {value!r}: set it to a whole number of {least} or more.")
        for name in ("grayscale", "flip"):
            if type(value := getattr(self, name)) is not bool:
                raise ConfigError(f"data.{name} is {value!r}: set it to true or false.")
        if self.patch and (self.crop < self.patch or (self.crop - self.patch) % self.stride):
            least = self.patch + max(0, (self.crop - self.patch) // self.stride) * self.stride
            raise ConfigError(
                f"data.crop is {self.crop}: patches of {self.patch} pixels every {self.stride} do not fill it; "
                f"set it to {least} or {least + self.stride}."
            )
        if type(self.views) is not int or self.views not in (1, 2) or (self.views == 2 and not self.flip):
            raise ConfigError(f"data.views is {self.views!r}: set it to 1, or to 2 with data.flip = true.")
        if not all(map(math.isfinite, self.means)):
            raise ConfigError(f"data.mean is {self.mean!r}: set it to finite numbers.")
        if not all(0 < deviation < math.inf for deviation in self.stds):
            raise ConfigError(f"data.std is {self.std!r}: set it to finite numbers above 0.")

    @property
    def channels(self) -> int:
        """C."""
        return 1 if self.grayscale else 3

    @property
    def side(self) -> int:
        """P."""
        return self.patch or self.crop

    @property
    def row_shape(self) -> tuple[int, int, int]:
        """(C, P, P)."""
        return (self.channels, self.side, self.side)

    @property
    def means(self) -> list[float]:
        """The mean of every channel."""
        return self._per_channel("mean", self.mean, GRAY[0] if self.grayscale else COLOUR[0])

    @property
    def stds(self) -> list[float]:
        """The deviation of every channel."""
        return self._per_channel("std", self.std, GRAY[1] if self.grayscale else COLOUR[1])

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of an image's patches; 0 where it is smaller than one."""
        if not self.patch:
            return (int(height >= self.crop), int(width >= self.crop))
        return (
            max(0, (height - self.patch) // self.stride + 1),
            max(0, (width - self.patch) // self.stride + 1),
        )

    def problem(self, height: int, width: int) -> str | None:
        """Say why an image of a size cannot be an item."""
        if 0 not in self.grid(height, width):
            return None
        key = "patch" if self.patch else "crop"
        return (
            f"{height} × {width} pixels hold no row of {self.side} × {self.side}: "
            f"lower data.{key}, or set data.size to enlarge it"
        )

    def _per_channel(self, name: str, given: Numbers | None, default: list[float]) -> list[float]:
        if given is None:
            return default
        numbers = list(given) if isinstance(given, Sequence) else [given] * self.channels
        if len(numbers) != self.channels or not all(isinstance(number, int | float) for number in numbers):
            raise ConfigError(f"data.{name} is {given!r}: set it to one number, or to {self.channels} in a list.")
        return [float(number) for number in numbers]


# Look at image files and decode them through Pillow, whatever they are, to 8-bit pixels.

Pixels = npt.NDArray[np.uint8]

# Pillow's warnings name no file: what they are about is refused, or noted of its file.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")  # no other decoder is tried, whatever a file calls itself
MAX_PIXELS = 2**26  # of an image: 64 million, 192 MiB when decoded
GREY = ("1", "L", "I;16")  # how the names of Pillow's modes without colour begin; "LA" and "La", too
TOO_MANY = f"it has more than the {MAX_PIXELS:,} pixels that are decoded: shrink it"
DARK = 2**12  # 16-bit pixels that all lie below it are of a camera with 12 bits or fewer
CUT = "it is cut short, though it is closed: a part of it is grey"
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
DAMAGED = "with damaged EXIF, which may be turned"
FRAMES = "with several frames, of which the first is taken"
NEARLY_BLACK = f"with 16 bits of which the upper four are unused, nearly black so: multiply by {2**16 // DARK}"
SIXTEEN = "with more than 8 bits, of which the upper 8 are taken"
COLOUR_LOST = "in colour, taken in grey (data.grayscale = false keeps it)"
_warnings = Lock()


@dataclass(frozen=True)
class Header:
    """What a file says of itself.

    Attributes:
        height: pixels from top to bottom, as shown.
        width: pixels from left to right.
        size: bytes on disk.
        colour: whether it may show some.
        notes: what is to be known of it, to follow its name.
    """

    height: int
    width: int
    size: int
    colour: bool
    notes: tuple[str, ...] = ()


def probe(path: str) -> Header | str:
    """Look at a file's header and at its end; return what is wrong with it if something is."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            return "it is not a regular file"  # opening a pipe would wait for ever
        if status.st_size == 0:
            return "the file is empty"
        with Image.open(path, formats=FORMATS) as picture, quietly(picture.format == "TIFF"):
            if picture.width * picture.height > MAX_PIXELS:
                return TOO_MANY
            if picture.mode.startswith(("I", "F")) and not picture.mode.startswith("I;16"):
                return "32-bit pixels have no known range: save it with 8 or 16 bits per channel"
            if picture.mode == "LAB":
                return "its colours are CIELAB: save it as RGB"
            orientation, damaged = _orientation(picture)
            notes = [DAMAGED] if damaged else []
            if picture.format != "MPO" and _frames(picture) > 1:  # a phone's JPEG holds a preview, too
                notes.append(FRAMES)
            width, height = reversed(picture.size) if orientation in SIDEWAYS else picture.size
            header = Header(height, width, status.st_size, not picture.mode.startswith(GREY))
            if picture.mode.startswith("I;16"):
                if int(_grey16(picture).max()) < DARK:
                    notes.append(NEARLY_BLACK)
                else:
                    notes.append(SIXTEEN)
            elif not _ends_as_it_should(path, picture.format):
                picture.load()
            return replace(header, notes=tuple(notes))
    except Exception as error:  # a damaged file makes Pillow raise nearly anything
        return _words(error)


def read_pixels(path: str, grayscale: bool, short: int | None, shape: tuple[int, int]) -> Pixels:
    """Decode an image as it is meant to be shown: uint8 (H, W, C), 1 channel in grayscale and else 3.

    Cameras' orientation is applied, 16 bits are cut to the upper 8, and what is transparent is put on white. Of
    several frames the first is taken. A JPEG that was cut and closed is refused, of which a decoder makes grey.

    Args:
        path: the file.
        grayscale: one channel of luma, else RGB.
        short: pixels that its short side is resized to, bilinearly and without aliasing; None leaves it.
        shape: H and W that it has after that, from when it was probed.

    Raises:
        DataError: the file cannot be decoded, or is not the one that was probed.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture, quietly(picture.format == "TIFF"):
            orientation, _ = _orientation(picture)
            shown = _on_white(picture)
            if picture.format == "JPEG" and _ends_grey(picture) and is_short(path):
                raise DataError(f"cannot read {path}: {CUT}. {AGAIN}")
        if orientation in TURNS:
            shown = shown.transpose(TURNS[orientation])
        shown = shown.convert("L" if grayscale else "RGB")
    except DataError:
        raise
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


def flaw_inside(path: str) -> str:
    """Say what is wrong inside an image whose header is good, "" if nothing; of a JPEG, which is decoded for that."""
    try:
        return CUT if lacks_a_part(path) else ""
    except (OSError, SyntaxError, ValueError) as error:
        return f"it cannot be decoded ({error}): save it again, or take it away"


def lacks_a_part(path: str) -> bool:
    """Say whether an image that was found good is a JPEG that was cut and closed; it is decoded for that."""
    with Image.open(path, formats=FORMATS) as picture:
        if picture.format != "JPEG":
            return False
        progressive = "progressive" in picture.info  # of which a cut leaves all, but blurred
        return (progressive or _ends_grey(picture)) and is_short(path)


def is_short(path: str) -> bool:
    """Say whether a JPEG that ends as it should lacks a part: a decoder then reads on in what is put before its end."""
    content = Path(path).read_bytes()
    end = content.rindex(ENDS["JPEG"])
    decoded = []
    for middle in (b"", b"\x55" * 2**12):
        with Image.open(io.BytesIO(content[:end] + middle + content[end:]), formats=FORMATS) as picture:
            decoded.append(picture.tobytes())
    return decoded[0] != decoded[1]


def _orientation(picture: ImageFile.ImageFile) -> tuple[object, bool]:
    """Return the EXIF number for how the camera was held, 1 is upright; and whether what it wrote is damaged.

    Nothing is decoded yet.
    """
    if picture.format == "TIFF":  # Pillow turns these itself
        return 1, False
    with _warnings, warnings.catch_warnings(record=True) as said:  # filters are the process's own
        warnings.simplefilter("always")
        try:
            # The method of the base class: a PNG's own would decode all of it, to look for notes behind the pixels.
            found = Image.Image.getexif(picture).get(ExifTags.Base.Orientation, 1)
            Image.Exif().load(picture.info.get("exif", b""))  # again: what was said when the file was opened is lost
        except Exception:  # damaged notes do not make an image a bad one
            return 1, True
    return found, any("EXIF" in str(each.message) for each in said)


def _frames(picture: ImageFile.ImageFile) -> int:
    with suppress(Exception):  # what lies behind the first one may be damaged
        return int(getattr(picture, "n_frames", 1))
    return 1


def _on_white(picture: ImageFile.ImageFile) -> Image.Image:
    clear = picture.info.get("transparency")
    if picture.mode.startswith("I;16"):  # Pillow itself would make white of all that is above 255
        values_HW = _grey16(picture)
        shown_HW = (values_HW >> 8).astype(np.uint8)
        return Image.fromarray(shown_HW if clear is None else np.where(values_HW == clear, np.uint8(255), shown_HW))
    if clear is None and picture.mode not in ("LA", "PA", "RGBA", "RGBa"):
        picture.load()
        return picture
    above = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)


def _grey16(picture: ImageFile.ImageFile) -> npt.NDArray[np.uint16]:
    """Return grey from 0, black, to 65,535: Pillow gives what the file holds, be white 0 and be it 12 bits."""
    values_HW = np.asarray(picture).astype(np.uint16)
    tags = getattr(picture, "tag_v2", {})
    if tags.get(TiffImagePlugin.BITSPERSAMPLE) == (12,):
        values_HW <<= 4
    return ~values_HW if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0 else values_HW


def _ends_grey(picture: ImageFile.ImageFile) -> bool:
    """Say whether the last block has the grey that a decoder fills in where a JPEG ends too early."""
    corner = picture.crop(((picture.width - 1) // 16 * 16, (picture.height - 1) // 16 * 16, *picture.size))
    # Not all of it: colours are smoothed into their neighbours.
    return picture.mode in ("L", "RGB") and bool(np.median(np.asarray(corner)) == 128)


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
