"""Arrays that a program gives an encoder: embedded as the file that they would be, or refused in words of ours.

Legend: B items, C channels, T samples, H × W pixels.
"""

from __future__ import annotations

import numbers
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeGuard

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from PIL import Image, ImageOps

from stagewise.datasets.bad_items import AGAIN
from stagewise.errors import InputError, StagewiseError
from stagewise.modules.geometry import Geometry
from stagewise.pipeline.wording import shown

# Samples and pixels that a program holds, as the file that they would be: they are embedded as files are.

SAMPLES = {"f": "FLOAT", "int16": "PCM_16", "int32": "PCM_32"}  # which a file keeps to the last bit
MOST_CHANNELS = 2  # of an array; the shorter of its two sides is theirs, and more of them are likely to be clips
FASTEST = 2**31 - 1  # samples per second that a file can say
IN_NO_FILE = {"HSV": "RGB", "La": "LA", "RGBa": "RGBA"}  # modes that no format has
Held = npt.NDArray[np.generic] | torch.Tensor | Image.Image


@contextmanager
def as_file(given: Held, kind: str | None, own_rate: int | None, rate: object) -> Iterator[Path]:
    """Give the path of a file of what somebody holds, for as long as the body runs; errors in it name no file.

    Args:
        given: samples (T,), or stereo (T, 2) or (2, T), floats that are 1 at full scale or int16 or int32;
            or pixels (H, W), (H, W, channels) or (channels, H, W), uint8; or an image of Pillow.
        kind: what the stages were trained on, "audio" or "image".
        own_rate: samples per second that the stages were trained on.
        rate: samples per second that were said, or None.

    Raises:
        InputError: it is something else.
    """
    with TemporaryDirectory(prefix="stagewise-") as folder:
        path = Path(folder, "array")
        if kind is None:
            pass  # nothing is read so: what is said of a path is said of this
        elif isinstance(given, Image.Image) or kind == "image":
            if kind == "audio":
                raise InputError("encoder.embed takes sound, and this is an image.")
            if rate is not None:
                raise InputError("sample_rate is of sound, and this is an image: leave it out.")
            _write_image(path, given)
        else:
            array = _array(given)
            subtype = SAMPLES.get(array.dtype.kind, SAMPLES.get(array.dtype.name))
            samples, whole = _samples(array, subtype), own_rate if rate is None else _whole(rate)
            soundfile.write(path, samples, whole, subtype, format="W64")
        try:
            yield path
        except StagewiseError as error:
            raise type(error)(_without(path, str(error))) from None


def _without(path: Path, text: str) -> str:
    """Return what is said of a file as what is said of what was given."""
    said = next((line for line in text.splitlines() if str(path) in line), text)
    said = said.replace(f"cannot read {path}:", "it cannot be read:").replace(str(path), "it").removesuffix(AGAIN)
    return f"what encoder.embed was given cannot be embedded: {said.strip().removeprefix('it:').strip(' .')}."


def _whole(rate: object) -> int:
    number = 0.0
    if type(rate) is not bool and isinstance(rate, numbers.Real):
        with suppress(OverflowError):
            number = float(rate)
    if number.is_integer() and 1 <= number <= FASTEST:
        return int(number)
    raise InputError(f"sample_rate is {shown(rate)}: give whole samples per second, such as 16000.")


def _array(given: npt.NDArray[np.generic] | torch.Tensor) -> npt.NDArray[np.generic]:
    if isinstance(given, np.ma.MaskedArray):
        raise InputError("a masked array is embedded as no file would be: give x.filled(0), or what you mean.")
    if isinstance(given, np.ndarray):
        return given.astype(given.dtype.newbyteorder("="), copy=False)
    try:
        tensor = given.detach().cpu().resolve_conj().resolve_neg()
        array: npt.NDArray[np.generic] = (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    except (TypeError, RuntimeError) as error:  # which it is depends on what it is
        raise InputError(f"a tensor of {given.dtype} is given as a dense one of numbers: {error}") from None
    return array


def _samples(array: npt.NDArray[np.generic], subtype: str | None) -> npt.NDArray[np.generic]:
    if subtype is None:
        raise InputError(f"samples are float32, int16 or int32, and these are {array.dtype}: convert them.")
    if not array.size:
        raise InputError(f"one recording is (samples,), or stereo (samples, 2), and this {array.shape} holds nothing.")
    if array.ndim == 2 and min(array.shape) <= MOST_CHANNELS:
        array = array.T if array.shape[0] < array.shape[1] else array
    elif array.ndim == 2:
        raise InputError(
            f"this is {array.shape}: give clips one after another, [encoder.embed(x) for x in …], and of a recording "
            "of more than two channels their mean."
        )
    elif array.ndim != 1:
        raise InputError(f"one recording is (samples,), or stereo (samples, 2), and this is {array.shape}.")
    with np.errstate(over="ignore"):  # an infinity is refused where it is read
        return array.astype(np.float32) if subtype == "FLOAT" else array


def _write_image(path: Path, given: Held) -> None:
    if not isinstance(given, Image.Image):
        Image.fromarray(_pixels(_array(given))).save(path, "PNG", compress_level=1)
        return
    try:
        shown = ImageOps.exif_transpose(given)
        # What a file says of its transparent colour would be lost in this one.
        clear = "transparency" in shown.info and not shown.mode.startswith("I;16")
        written = shown.convert("RGBA" if clear else IN_NO_FILE.get(shown.mode, shown.mode))
        written.info.pop("compression", None)  # of the file it comes from, which may lose something, or not fit
        written.save(path, "TIFF")
    except (OSError, SyntaxError, ValueError, SystemError) as error:  # a file that is cut off, or was closed
        raise InputError(f"the image cannot be read: {error}.") from None


def _pixels(array: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim == 4:
        raise InputError(
            f"this is {array.shape}, and images are taken one after another: [encoder.embed(x) for x in …]."
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise InputError(f"one image is (height, width) or (height, width, 3), and this is {array.shape}.")
    if array.dtype != np.uint8:
        scaled = ' if 1 is white, (255 * x).round().astype("uint8")' if array.dtype.kind == "f" else ""
        raise InputError(f"pixels are uint8, from 0 to 255, and these are {array.dtype}: convert them{scaled}.")
    return np.ascontiguousarray(array, np.uint8)


# What a frozen encoder is given in Python: refused in its own words, where torch would name the shapes of a kernel.

FULL = {torch.uint8: "255", torch.int16: "32768", torch.int32: "2**31"}  # what stands for 1 in whole numbers


def is_held(given: object) -> TypeGuard[Held]:
    """Whether it is samples or pixels: an array, a tensor, or an image of Pillow."""
    from PIL.Image import Image

    return isinstance(given, np.ndarray | torch.Tensor | Image)


def check_path(path: object) -> Path:
    """Return the path of a file.

    Raises:
        InputError: it is something else.
    """
    if isinstance(path, str | os.PathLike) and isinstance(name := os.fspath(path), str):
        if not name or "\0" in name:
            raise InputError(f"{name!r} is no path of a file.")
        return Path(path)
    if isinstance(path, list | tuple):
        raise InputError("encoder.embed takes one after another, not a list: [encoder.embed(x) for x in …].")
    raise InputError(
        f"encoder.embed takes the path of a file, an array of samples or pixels, or an image of Pillow, not {_a(path)}."
    )


def check_samples(x: object, channels: int, dtype: torch.dtype, geometry: Geometry) -> None:
    """Refuse what is not (B, C, T), or too short for a row.

    Raises:
        InputError: says what is wanted, what was given, and what to type.
    """
    wanted = f"(B, {channels}, samples)"
    shape = _shape(x, wanted, dtype)
    advice = ""
    if len(shape) == 1 == channels:
        advice = "give it x[None, None]"
    elif len(shape) == 2 and channels == 1:
        advice = "give it x[:, None]"
        if shape[0] > 1:
            advice += " if its lines are items, x.mean(0)[None, None] if they are the channels of one"
    elif len(shape) != 3:
        advice = "give it three dimensions"
    elif shape[1] != channels:
        if shape[2] == channels:
            advice = "give it x.transpose(1, 2)"
        elif channels == 1 and shape[1]:
            advice = "give it x.mean(1, keepdim=True)"
        else:
            advice = f"give it {channels} channels"
    elif not geometry.rows(shape[2]):
        advice = (
            f"that is too short for a row, which sees {geometry.receptive_field:,} samples: give it so many, or more"
        )
    _refuse(wanted, shape, advice)


def check_pixels(x: object, channels: int, dtype: torch.dtype, patch: int) -> None:
    """Refuse what is not (B, C, H, W), or holds no patch; raises what `check_samples` does."""
    wanted = f"(B, {channels}, height, width)"
    shape = _shape(x, wanted, dtype)
    advice = ""
    if len(shape) == 2 and channels == 1:
        advice = "give it x[None, None]"
    elif len(shape) == 3 and channels in shape:
        advice = {0: "give it x[None]", 2: "give it x.movedim(2, 0)[None]"}.get(shape.index(channels), "")
    elif len(shape) == 3 and channels == 1:
        if shape[2] == 3:
            advice = "make it grey, or give its uint8 pixels to encoder.embed"
        elif shape[0] == 3:
            advice = "give it x[:, None] if it is three grey images; if it is one in colour, make it grey"
        else:
            advice = "give it x[:, None]"
    elif len(shape) == 4 and shape[1] != channels:
        if shape[3] == channels:
            advice = "give it x.movedim(3, 1)"
        elif (channels, shape[3]) == (1, 3):
            advice = "make it grey, or give the uint8 pixels of one image to encoder.embed"
        elif (channels, shape[1]) == (1, 3):
            advice = "give it grey, 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]"
        elif (channels, shape[1]) == (3, 1):
            advice = "give it x.expand(-1, 3, -1, -1)"
    elif len(shape) == 4 and 0 not in shape:
        if min(shape[2:]) >= patch:
            return
        advice = f"that holds no patch of {patch} × {patch} pixels: enlarge it"
    _refuse(wanted, shape, advice or "give it such a one")


def _shape(x: object, wanted: str, dtype: torch.dtype) -> tuple[int, ...]:
    if not isinstance(x, torch.Tensor):
        path = isinstance(x, str | os.PathLike)
        advice = "files go to encoder.embed(path)" if path else "arrays go to encoder.embed(x), or torch.as_tensor(x)"
        raise InputError(f"encoder(x) takes a float32 tensor {wanted}, not {_a(x)}: {advice}.")
    if not x.is_floating_point():
        full = FULL.get(x.dtype)
        advice = "give it float32" if full is None else f"give it x.float() / {full}"
        raise InputError(f"encoder(x) takes float32 {wanted}, and x is {_name(x.dtype)}: {advice}, standardised.")
    if x.dtype == torch.float64 != dtype:
        raise InputError(f"encoder(x) takes {_name(dtype)} {wanted}, and x is float64: give it x.float().")
    return tuple(x.shape)


def _refuse(wanted: str, shape: tuple[int, ...], advice: str) -> None:
    if advice:
        raise InputError(f"encoder(x) takes {wanted}, and x is {shape}: {advice}.")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _a(value: object) -> str:
    return f"a value of type {type(value).__name__}"
