"""The paper's stages for recordings, fitted to their rate and lengths: strides, and the window that nearly all fill.

Löwe et al. 2019, section 4.2 and appendix A.2: five convolutions, a row every 10 ms at the fifth, windows of 128 rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stagewise.errors import DataError
from stagewise.modules.geometry import Geometry, Layer
from stagewise.starting.recipe import Line

HOP_SECONDS = 0.01  # from one row of the fifth convolution to the next, in the paper
STRIDES = ((5, 4, 2, 2, 2), (5, 4, 2, 2, 1), (5, 4, 2, 1, 1), (5, 4, 1, 1, 1), (5, 2, 1, 1, 1), (5, 1, 1, 1, 1))
PADDED = {5: (10, 2), 4: (8, 2), 2: (4, 2), 1: (3, 1)}  # kernel and padding, by stride; 5 to 2 are the paper's
LAST = (4, 2, 1)  # kernel, stride and padding of the paper's fifth
WINDOWS, STEPS = (128, 64, 32, 16), 12
SHARE = 0.9  # of the items that are to fill a window
SHARES = (SHARE, 0.75, 0.5)  # tried in turn, before the longest item alone decides
WIDTHS = {False: (64, 64), True: (512, 256)}  # channels and those of the context, by whether there is a GPU
WHY_WIDTHS = {
    False: ("64 channels a stage, for speed: the paper's 512 want a GPU", "64 channels, the paper's are 256"),
    True: ("512 channels a stage, as in the paper", "256 channels, as in the paper"),
}


@dataclass(frozen=True)
class Stack:
    """Five convolutions and the window of their objectives.

    Attributes:
        strides: of the convolutions, lowest first.
        window: rows that are scored at a time, at every stage.
        rate: samples per second.
    """

    strides: tuple[int, ...]
    window: int
    rate: int

    @property
    def layers(self) -> list[tuple[int, int, int]]:
        """Kernel, stride and padding of each convolution."""
        layers = [(PADDED[stride][0], stride, PADDED[stride][1]) for stride in self.strides]
        return layers if self.strides[-1] != LAST[1] else [*layers[:-1], LAST]

    @property
    def geometry(self) -> Geometry:
        """From samples to the rows of the fifth convolution."""
        return Geometry(tuple(Layer(kernel, stride, padding, padding) for kernel, stride, padding in self.layers))

    @property
    def hop(self) -> int:
        """Samples from one row of the fifth convolution to the next."""
        return self.geometry.hop

    @property
    def span(self) -> int:
        """Samples that an item needs to hold a window of the fifth convolution's rows."""
        return self.geometry.window_span(self.window)

    @property
    def steps(self) -> int:
        """How many rows ahead to predict."""
        return min(STEPS, self.window // 2)

    def objective(self, lengths: npt.NDArray[np.int64]) -> list[Line]:
        """Return the lines of the objective's defaults, for items of so many samples."""
        fill, items = int((lengths >= self.span).sum()), len(lengths)
        seconds = f"{self.window * self.hop / self.rate:.2g} s at the fifth stage"
        filled = f"all {items:,} files fill one" if fill == items else f"{fill:,} of {items:,} files fill one"
        return [
            ("target", "infonce", "tell the row some steps ahead from rows drawn elsewhere"),
            ("steps", self.steps, f"rows ahead that are told: {STEPS} in the paper, half a window at most"),
            ("negatives", 10, "rows that each is told from, as in the paper"),
            ("window", self.window, f"rows that are scored at a time: {seconds}; {filled}"),
        ]

    def stages(self, gpu: bool) -> list[list[Line]]:
        """Return the lines of every stage."""
        (width, context), (why_width, why_context) = WIDTHS[gpu], WHY_WIDTHS[gpu]
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
        hop = f"a row every {self.hop} samples, {1000 * self.hop / self.rate:.3g} ms"
        if self.strides == STRIDES[0]:
            return f"{hop}: the paper's strides" + (", and its 10 ms" if self.rate == 16_000 else "")
        usual = _nearest(self.rate)
        if self.strides == usual:
            return f"{hop}: the paper's 10 ms, with fewer strides for {self.rate:,} samples a second"
        return f"{hop}: fewer strides than the paper's 10 ms take, so that short files fill a window"


def fitted(lengths: npt.NDArray[np.int64], rate: int) -> Stack:
    """Choose the strides nearest to the paper's 10 ms, and the longest window that nine items in ten fill.

    Where not even the shortest window does, strides are left out; then fewer items have to fill one.

    Args:
        lengths: samples of every item.
        rate: samples per second.

    Raises:
        DataError: no item fills the shortest window.
    """
    nearest = STRIDES.index(_nearest(rate))
    rising = np.sort(lengths)
    enough = [int(rising[int((1 - share) * len(rising))]) for share in SHARES] + [int(rising[-1])]
    for length in enough:
        for strides in STRIDES[nearest:]:
            for window in WINDOWS:
                if (stack := Stack(strides, window, rate)).span <= length:
                    return stack
    least = Stack(STRIDES[-1], WINDOWS[-1], rate)
    raise DataError(
        f"the longest file has {rising[-1] / rate:.2g} s, and training needs {least.span / rate:.2g} s: "
        "join the files, or name a folder of longer ones."
    )


def _nearest(rate: int) -> tuple[int, ...]:
    """Return the strides whose rows lie nearest to 10 ms apart, in octaves."""
    return min(STRIDES, key=lambda strides: abs(np.log2(np.prod(strides) / (HOP_SECONDS * rate))))
