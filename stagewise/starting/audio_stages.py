"""The stages that suit recordings of some rate and lengths: strides, and the window that nearly all fill."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from stagewise.arrays import Ints
from stagewise.errors import DataError
from stagewise.modules.geometry import Geometry, Layer
from stagewise.starting.recipe import Line

# What every stack of stages has: a row about every 10 ms, and windows of rows that are scored at a time.

HOP_SECONDS = 0.01  # from one row of the top to the next, in the paper
WINDOWS, STEPS = (128, 64, 32, 16), 12
SHARES = (0.9, 0.75, 0.5)  # of the items that are to fill a window, tried in turn; then the longest item alone decides


@dataclass(frozen=True)
class Stack(ABC):
    """Stages for recordings, and the window of their objectives.

    Attributes:
        rate: samples per second.
        window: rows that are scored at a time, at every stage.
    """

    rate: int
    window: int
    falls: ClassVar = False  # whether the learning rate rises and then falls

    @property
    @abstractmethod
    def learning_rate(self) -> float:
        """Of Adam."""

    @property
    @abstractmethod
    def why_rate(self) -> str:
        """Why it is that."""

    @property
    @abstractmethod
    def geometry(self) -> Geometry:
        """From samples to the rows of the topmost convolution."""

    @abstractmethod
    def stages(self) -> list[list[Line]]:
        """Return the lines of every stage."""

    @property
    def hop(self) -> int:
        """Samples from one row to the next."""
        return self.geometry.hop

    @property
    def span(self) -> int:
        """Samples that an item needs to hold a window."""
        return self.geometry.window_span(self.window)

    @property
    def steps(self) -> int:
        """How many rows ahead to predict."""
        return min(STEPS, self.window // 2)

    def objective(self, lengths: Ints) -> list[Line]:
        """Return the lines of the objective's defaults, for items of so many samples."""
        fill, items = int((lengths >= self.span).sum()), len(lengths)
        seconds = f"{self.window * self.hop / self.rate:.2g} s at the topmost convolution"
        filled = f"all {items:,} files fill one" if fill == items else f"{fill:,} of {items:,} files fill one"
        return [
            ("target", "infonce", "tell the row some steps ahead from rows drawn elsewhere"),
            ("steps", self.steps, f"rows ahead that are told: {STEPS} in the paper, half a window at most"),
            ("negatives", 10, "rows that each is told from, as in the paper"),
            ("window", self.window, f"rows that are scored at a time: {seconds}; {filled}"),
        ]

    @property
    def row_words(self) -> str:
        """How far rows lie apart, in words."""
        return f"a row every {self.hop} samples, {1000 * self.hop / self.rate:.3g} ms"


# Stages above mel spectra: what can be learnt in minutes to hours on a CPU.

LEAST_RATE = 4_000  # samples per second: below, there is no such thing as a mel scale
SPECTRUM_SECONDS = 0.025
KERNELS = (5, 3)
WIDTH = 256
HOPS = (1.0, 0.5, 0.25)  # of 10 ms, the shorter ones for short recordings


@dataclass(frozen=True)
class MelStack(Stack):
    """A log-mel spectrum, two convolutions over its rows and a GRU.

    Attributes:
        spacing: of the rows, as a part of 10 ms.
    """

    spacing: float = 1.0
    falls: ClassVar = True
    learning_rate: ClassVar = 1e-3
    why_rate: ClassVar = "at its highest: five times the paper's, which stays as it is"

    @property
    def spectrum(self) -> tuple[int, int]:
        """Samples of a spectrum, and from one to the next."""
        return round(SPECTRUM_SECONDS * self.rate), round(HOP_SECONDS * self.spacing * self.rate)

    @property
    def geometry(self) -> Geometry:
        """From samples to the rows of the second convolution."""
        window, hop = self.spectrum
        before = window // 2 - hop // 8
        above = (Layer(kernel, 1, kernel // 2, kernel // 2) for kernel in KERNELS)
        return Geometry((Layer(window, hop, before, before - 1), *above))

    def stages(self) -> list[list[Line]]:
        """Return the lines of every stage."""
        window, hop = self.spectrum
        front = {"target": "log-mel", "sample_rate": self.rate, "window": window, "hop": hop}
        short = "" if self.spacing == HOPS[0] else ": closer than the usual 10 ms, so that short files fill a window"
        stages: list[list[Line]] = [
            [("name", "mel", f"computed, not trained; {self.row_words}{short}"), ("encoder", front, "")]
        ]
        channels = 40
        for number, kernel in enumerate(KERNELS, 1):
            layer = {"target": "conv1d", "in_channels": channels, "out_channels": WIDTH, "kernel_size": kernel}
            stages.append([("name", f"conv{number}", ""), ("encoder", layer | {"padding": kernel // 2}, "")])
            channels = WIDTH
        gru = {"target": "gru", "input_size": WIDTH, "hidden_size": WIDTH}
        return [*stages, [("name", "context", "what came before, too"), ("context", gru, "")]]


# The paper's stages for recordings, fitted to their rate and lengths: what can be learnt in days, on a GPU.
#
# Löwe et al. 2019, section 4.2 and appendix A.2: five convolutions, a row every 10 ms at the fifth, windows of 128
# rows.

STRIDES = ((5, 4, 2, 2, 2), (5, 4, 2, 2, 1), (5, 4, 2, 1, 1), (5, 4, 1, 1, 1), (5, 2, 1, 1, 1), (5, 1, 1, 1, 1))
PADDED = {5: (10, 2), 4: (8, 2), 2: (4, 2), 1: (3, 1)}  # kernel and padding, by stride; 5 to 2 are the paper's
LAST = (4, 2, 1)  # kernel, stride and padding of the paper's fifth
WIDTHS = {False: (64, 64), True: (512, 256)}  # channels and those of the context, by whether there is a GPU
WHY_WIDTHS = {
    False: ("64 channels a stage, for speed: the paper's 512 want a GPU", "64 channels, the paper's are 256"),
    True: ("512 channels a stage, as in the paper", "256 channels, as in the paper"),
}


@dataclass(frozen=True)
class SampleStack(Stack):
    """Five convolutions over samples and a GRU.

    Attributes:
        strides: of the convolutions, lowest first.
        gpu: whether there is one.
    """

    strides: tuple[int, ...] = STRIDES[0]
    gpu: bool = False

    @property
    def learning_rate(self) -> float:
        """Of Adam."""
        return 2e-4 if self.gpu else 5e-4

    @property
    def why_rate(self) -> str:
        """Why it is that."""
        return "as in the paper" if self.gpu else "more than the paper's 2e-4: narrow stages bear it"

    @property
    def layers(self) -> list[tuple[int, int, int]]:
        """Kernel, stride and padding of each convolution."""
        layers = [(PADDED[stride][0], stride, PADDED[stride][1]) for stride in self.strides]
        return layers if self.strides[-1] != LAST[1] else [*layers[:-1], LAST]

    @property
    def geometry(self) -> Geometry:
        """From samples to the rows of the fifth convolution."""
        return Geometry(tuple(Layer(kernel, stride, padding, padding) for kernel, stride, padding in self.layers))

    def stages(self) -> list[list[Line]]:
        """Return the lines of every stage."""
        (width, context), (why_width, why_context) = WIDTHS[self.gpu], WHY_WIDTHS[self.gpu]
        stages: list[list[Line]] = []
        for number, (kernel, stride, padding) in enumerate(self.layers, 1):
            channels = {"in_channels": 1 if number == 1 else width, "out_channels": width}
            layer = {"target": "conv1d", **channels, "kernel_size": kernel, "stride": stride, "padding": padding}
            why = {1: why_width, 5: self._why_hop}.get(number, "")
            stages.append([("name", f"conv{number}", why), ("encoder", layer, "")])
        gru = {"target": "gru", "input_size": width, "hidden_size": context}
        return [*stages, [("name", "context", why_context), ("context", gru, "")]]

    @property
    def _why_hop(self) -> str:
        if self.strides == STRIDES[0]:
            return f"{self.row_words}: the paper's strides" + (", and its 10 ms" if self.rate == 16_000 else "")
        if self.strides == STRIDES[_nearest(self.rate)]:
            return f"{self.row_words}: the paper's 10 ms, with fewer strides for {self.rate:,} samples a second"
        return f"{self.row_words}: fewer strides than the paper's 10 ms take, so that short files fill a window"


def fitted(lengths: Ints, rate: int, gpu: bool) -> Stack:
    """Choose the stages, the rows nearest to 10 ms apart and the longest window that nine items in ten fill.

    Where not even the shortest window does, rows lie closer; then fewer items have to fill one.

    Args:
        lengths: samples of every item.
        rate: samples per second.
        gpu: whether there is one.

    Raises:
        DataError: no item fills the shortest window.
    """
    stacks = list(_stacks(rate, gpu))
    rising = np.sort(lengths)
    enough = [int(rising[int((1 - share) * len(rising))]) for share in SHARES] + [int(rising[-1])]
    for length in enough:
        for stack in stacks:
            if stack.span <= length:
                return stack
    raise DataError(
        f"the longest file has {rising[-1] / rate:.2g} s, and training needs {stacks[-1].span / rate:.2g} s: "
        "join the files, or name a folder of longer ones."
    )


def _stacks(rate: int, gpu: bool) -> Iterator[Stack]:
    """Yield the stacks that suit a rate, the best first."""
    if gpu or rate < LEAST_RATE:
        for strides in STRIDES[_nearest(rate) :]:
            yield from (SampleStack(rate, window, strides, gpu) for window in WINDOWS)
    else:
        for spacing in HOPS:
            yield from (MelStack(rate, window, spacing) for window in WINDOWS)


def _nearest(rate: int) -> int:
    """Return which strides give rows that lie nearest to 10 ms apart, in octaves."""
    return min(range(len(STRIDES)), key=lambda n: abs(np.log2(np.prod(STRIDES[n]) / (HOP_SECONDS * rate))))
