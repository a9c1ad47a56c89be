"""What a frozen encoder is given in Python: refused in its own words, where torch would name the shapes of a kernel.

Legend: B items, C channels, T samples, H × W pixels.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

import numpy as np
import torch

from stagewise.errors import InputError
from stagewise.modules.geometry import Geometry

if TYPE_CHECKING:
    from stagewise.embedding.given_arrays import Held

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
    remedy = ""
    if len(shape) == 1 == channels:
        remedy = "give it x[None, None]"
    elif len(shape) == 2 and channels == 1:
        remedy = "give it x[:, None]"
        if shape[0] > 1:
            remedy += " if its lines are items, x.mean(0)[None, None] if they are the channels of one"
    elif len(shape) != 3:
        remedy = "give it three dimensions"
    elif shape[1] != channels:
        if shape[2] == channels:
            remedy = "give it x.transpose(1, 2)"
        elif channels == 1 and shape[1]:
            remedy = "give it x.mean(1, keepdim=True)"
        else:
            remedy = f"give it {channels} channels"
    elif not geometry.rows(shape[2]):
        remedy = (
            f"that is too short for a row, which sees {geometry.receptive_field:,} samples: give it so many, or more"
        )
    _refuse(wanted, shape, remedy)


def check_pixels(x: object, channels: int, dtype: torch.dtype, patch: int) -> None:
    """Refuse what is not (B, C, H, W), or holds no patch; raises what `check_samples` does."""
    wanted = f"(B, {channels}, height, width)"
    shape = _shape(x, wanted, dtype)
    remedy = ""
    if len(shape) == 2 and channels == 1:
        remedy = "give it x[None, None]"
    elif len(shape) == 3 and channels in shape:
        remedy = {0: "give it x[None]", 2: "give it x.movedim(2, 0)[None]"}.get(shape.index(channels), "")
    elif len(shape) == 3 and channels == 1:
        if shape[2] == 3:
            remedy = "make it grey, or give its uint8 pixels to encoder.embed"
        elif shape[0] == 3:
            remedy = "give it x[:, None] if it is three grey images; if it is one in colour, make it grey"
        else:
            remedy = "give it x[:, None]"
    elif len(shape) == 4 and shape[1] != channels:
        if shape[3] == channels:
            remedy = "give it x.movedim(3, 1)"
        elif (channels, shape[3]) == (1, 3):
            remedy = "make it grey, or give the uint8 pixels of one image to encoder.embed"
        elif (channels, shape[1]) == (1, 3):
            remedy = "give it grey, 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]"
        elif (channels, shape[1]) == (3, 1):
            remedy = "give it x.expand(-1, 3, -1, -1)"
    elif len(shape) == 4 and 0 not in shape:
        if min(shape[2:]) >= patch:
            return
        remedy = f"that holds no patch of {patch} × {patch} pixels: enlarge it"
    _refuse(wanted, shape, remedy or "give it such a one")


def _shape(x: object, wanted: str, dtype: torch.dtype) -> tuple[int, ...]:
    if not isinstance(x, torch.Tensor):
        path = isinstance(x, str | os.PathLike)
        remedy = "files go to encoder.embed(path)" if path else "arrays go to encoder.embed(x), or torch.as_tensor(x)"
        raise InputError(f"encoder(x) takes a float32 tensor {wanted}, not {_a(x)}: {remedy}.")
    if not x.is_floating_point():
        full = FULL.get(x.dtype)
        remedy = "give it float32" if full is None else f"give it x.float() / {full}"
        raise InputError(f"encoder(x) takes float32 {wanted}, and x is {_name(x.dtype)}: {remedy}, standardised.")
    if x.dtype == torch.float64 != dtype:
        raise InputError(f"encoder(x) takes {_name(dtype)} {wanted}, and x is float64: give it x.float().")
    return tuple(x.shape)


def _refuse(wanted: str, shape: tuple[int, ...], remedy: str) -> None:
    if remedy:
        raise InputError(f"encoder(x) takes {wanted}, and x is {shape}: {remedy}.")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _a(value: object) -> str:
    return f"a value of type {type(value).__name__}"
