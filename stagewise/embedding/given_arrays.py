"""Samples and pixels that a program holds, as the file that they would be: they are embedded as files are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from PIL import Image, ImageOps

from stagewise.errors import InputError

SAMPLES = {"f": "FLOAT", "int16": "PCM_16", "int32": "PCM_32"}  # which a file keeps to the last bit
MOST_CHANNELS = 64  # the shorter side of two is that of the channels
Held = npt.NDArray[np.generic] | torch.Tensor | Image.Image


@contextmanager
def as_file(given: Held, kind: str | None, rate: int | None) -> Iterator[Path]:
    """Give the path of a file of what somebody holds, for as long as the body runs.

    Args:
        given: samples (T,), (channels, T) or (T, channels), floats that are 1 at full scale or int16 or int32;
            or pixels (H, W), (H, W, channels) or (channels, H, W), uint8; or an image of Pillow.
        kind: what the stages were trained on, "audio" or "image".
        rate: samples per second.

    Raises:
        InputError: it is something else.
    """
    with TemporaryDirectory(prefix="stagewise-") as folder:
        path = Path(folder, "array")
        if isinstance(given, Image.Image):
            if kind == "audio":
                raise InputError("encoder.embed takes sound, and this is an image.")
            ImageOps.exif_transpose(given).save(path, "TIFF")
        else:
            array = given.detach().cpu().numpy() if isinstance(given, torch.Tensor) else given
            if kind == "image":
                Image.fromarray(_pixels(array)).save(path, "PNG", compress_level=1)
            else:
                subtype = SAMPLES.get(array.dtype.kind, SAMPLES.get(array.dtype.name))
                soundfile.write(path, _samples(array, subtype), rate, subtype, format="W64")
        yield path


def _samples(array: npt.NDArray[np.generic], subtype: str | None) -> npt.NDArray[np.generic]:
    if subtype is None:
        raise InputError(f"samples are float32, int16 or int32, and these are {array.dtype}: convert them.")
    if array.ndim == 2 and min(array.shape) <= MOST_CHANNELS:
        array = array.T if array.shape[0] < array.shape[1] else array
    elif array.ndim != 1:
        raise InputError(f"one recording is (samples,) or (channels, samples), and this is {array.shape}.")
    return array.astype(np.float32) if subtype == "FLOAT" else array


def _pixels(array: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    if array.ndim == 3 and array.shape[0] in (1, 3, 4) and array.shape[2] not in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise InputError(f"one image is (height, width) or (height, width, 3), and this is {array.shape}.")
    if array.dtype != np.uint8:
        scaled = ' if 1 is white, (255 * x).round().astype("uint8")' if array.dtype.kind == "f" else ""
        raise InputError(f"pixels are uint8, from 0 to 255, and these are {array.dtype}: convert them{scaled}.")
    return np.ascontiguousarray(array, np.uint8)
