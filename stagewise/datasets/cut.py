"""How images become rows: the arguments of the pipeline file that all sets of images share.

Shape suffixes: C channels, P pixels of a row's side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from stagewise.errors import ConfigError

Numbers = float | Sequence[float]

GRAY = ([0.4120], [0.2570])  # mean and deviation of STL-10 in grayscale, with which the published results were made
COLOUR = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # those of ImageNet


@dataclass(frozen=True)
class Cut:
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
