"""What excites the channels of a stage most.

Legend: C channels, T rows of a piece, K places of the best, F frequencies, N frames, H x W pixels.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.image import imsave

from stagewise.datasets.base import Dataset
from stagewise.datasets.images import Images
from stagewise.encoding.encode import Chain
from stagewise.errors import DataError
from stagewise.modules.geometry import Geometry
from stagewise.planning.plan import Plan
from stagewise.results.page import colour, escape, heading, note, strip
from stagewise.runner import outline_pipeline
from stagewise.runs.folder import RunFolder, pipeline_of
from stagewise.stages import input_of

# What excites a neuron most: the rows with the highest activation of some channels, found in one pass.

Rows_TC = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Excited:
    """A row that excites a channel: which row of which item, and how much."""

    item: int
    row: int
    value: float


@dataclass(frozen=True)
class Neuron:
    """A channel, and the rows that excite it most, highest first, at most one of each item."""

    channel: int
    examples: list[Excited]


def exciting(
    rows: Callable[[int], Iterator[Rows_TC]], items: Iterable[int], channels: int = 4, top: int = 4
) -> list[Neuron]:
    """Find what excites some channels most, in memory for `top` rows of every channel (Löwe et al. 2019, Figure 2).

    The channels are spread evenly over those that vary most: the half with the largest variance over all rows.

    Args:
        rows: yields an item's rows, float32 (T, C), piece by piece.
        items: which to look at; each is read once. Of equal activations the earlier one counts.
        channels: how many channels at most.
        top: how many rows of each at most.

    Returns:
        The channels, that of the largest variance first; none if no item has a row.
    """
    best, spread = _Best(top), _Spread()
    for item in items:
        value_C, row_C, passed = np.full(1, -np.inf, np.float32), np.zeros(1, np.int64), 0
        for piece_TC in rows(item):
            spread.add(piece_TC)
            at_C = piece_TC.argmax(0)
            highest_C = piece_TC[at_C, np.arange(piece_TC.shape[1])]
            row_C = np.where(highest_C > value_C, at_C + passed, row_C)
            value_C = np.maximum(highest_C, value_C)
            passed += len(piece_TC)
        if passed:
            best.add(item, row_C, value_C)
    if not spread.count:
        return []
    order = np.argsort(-spread.squares_C, kind="stable")
    order = order[: max(channels, -(-len(order) // 2))]
    chosen = order[np.linspace(0, len(order) - 1, min(channels, len(order))).astype(int)]
    return [Neuron(channel, best.of(channel)) for channel in chosen.tolist()]


class _Best:
    """The highest activations so far of every channel, highest first."""

    def __init__(self, top: int) -> None:
        self.top = top
        self.value_KC: npt.NDArray[np.float64] = np.empty((0, 0))
        self.item_KC: npt.NDArray[np.int64]
        self.row_KC: npt.NDArray[np.int64]

    def add(self, item: int, row_C: npt.NDArray[np.int64], value_C: npt.NDArray[np.float32]) -> None:
        if not self.value_KC.size:
            self.value_KC = np.full((self.top, len(value_C)), -np.inf)
            self.item_KC, self.row_KC = (np.zeros((self.top, len(value_C)), np.int64) for _ in range(2))
        better_C = value_C > self.value_KC[-1]
        self.value_KC[-1, better_C], self.row_KC[-1, better_C] = value_C[better_C], row_C[better_C]
        self.item_KC[-1, better_C] = item
        order_KC = np.argsort(-self.value_KC, axis=0, kind="stable")
        self.value_KC = np.take_along_axis(self.value_KC, order_KC, 0)
        self.item_KC = np.take_along_axis(self.item_KC, order_KC, 0)
        self.row_KC = np.take_along_axis(self.row_KC, order_KC, 0)

    def of(self, channel: int) -> list[Excited]:
        columns = (array[:, channel].tolist() for array in (self.item_KC, self.row_KC, self.value_KC))
        return [Excited(*found) for found in zip(*columns, strict=True) if found[2] > -np.inf]


class _Spread:
    """Mean and sum of squared differences from it, of every channel over all rows so far (Chan et al. 1983)."""

    def __init__(self) -> None:
        self.count = 0
        self.mean_C, self.squares_C = np.zeros(1), np.zeros(1)

    def add(self, piece_TC: Rows_TC) -> None:
        new, mean_C = len(piece_TC), piece_TC.mean(0, dtype=np.float64)
        apart_C, count = mean_C - self.mean_C, self.count + new
        self.squares_C = self.squares_C + ((piece_TC - mean_C) ** 2).sum(0) + apart_C**2 * (self.count * new / count)
        self.mean_C, self.count = self.mean_C + apart_C * (new / count), count


# Small pictures of what one row sees: the pixels of a patch, a spectrogram, or a wave too short for one.

FRAME, HOP = 0.025, 0.005  # seconds of one spectrum, and between the starts of two
DECIBELS = 60.0  # below the loudest point of a spectrogram, and all beneath, is black
Floats = npt.NDArray[np.floating[Any]]
Pixels = npt.NDArray[np.uint8]


def patch(pixels_HWC: Pixels, alt: str) -> str:
    """Return a patch as an image element; 1, 3 or 4 channels."""
    if pixels_HWC.shape[2] == 1:
        pixels_HWC = pixels_HWC.repeat(3, axis=2)
    return _image(pixels_HWC, alt, "patch")


def wave(samples_T: Floats, alt: str) -> str:
    """Return samples as a line, as high as the loudest of them."""
    loudest = float(np.abs(samples_T).max(initial=0)) or 1.0
    places = np.linspace(0, 100, len(samples_T))
    points = " ".join(f"{x:.2f},{29 - 27 * y:.2f}" for x, y in zip(places, samples_T / loudest, strict=True))
    return (
        f'<svg viewBox="0 0 100 58" preserveAspectRatio="none" role="img" aria-label="{escape(alt)}">'
        f'<title>{escape(alt)}</title><path d="M0 29H100" stroke="currentColor" stroke-opacity=".3" '
        f'vector-effect="non-scaling-stroke"/><polyline points="{points}" fill="none" stroke="{colour(0)}" '
        'stroke-width="1.5" vector-effect="non-scaling-stroke"/></svg>'
    )


def spectrogram(samples_T: Floats, sample_rate: int, seen: tuple[float, float], alt: str) -> str:
    """Return samples as a spectrogram, low frequencies below, with a line at both ends of what the row sees.

    Args:
        samples_T: at least one.
        sample_rate: of them, per second.
        seen: where the row's view begins and ends, in seconds from the first sample.
        alt: what it is, in words.
    """
    level_FN = decibels(samples_T, sample_rate)
    pixels_HWC = (colormaps["magma"](level_FN[::-1] / DECIBELS + 1)[..., :3] * 255).astype(np.uint8)
    for second in seen:
        place = round((second - FRAME / 2) / HOP)
        if 0 <= place < pixels_HWC.shape[1]:
            pixels_HWC[:, place] = 255
    return _image(pixels_HWC, alt, "sound")


def decibels(samples_T: Floats, sample_rate: int) -> Floats:
    """Return the power of every frequency in every frame, (F, N), in decibels: 0 is the loudest, -60 the least."""
    size, hop = round(FRAME * sample_rate), max(1, round(HOP * sample_rate))
    padded_T = np.pad(samples_T, (0, max(0, size - len(samples_T))))
    frames_NT = np.lib.stride_tricks.sliding_window_view(padded_T, size)[::hop]
    power_FN = (np.abs(np.fft.rfft(frames_NT * np.hanning(size))) ** 2).T
    loudest = power_FN.max() or 1.0
    return np.asarray(10 * np.log10(np.maximum(power_FN / loudest, 10 ** (-DECIBELS / 10))))


def _image(pixels_HWC: Pixels, alt: str, kind: str) -> str:
    file = io.BytesIO()
    imsave(file, pixels_HWC, format="png")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img class="{kind}" alt="{escape(alt)}" src="data:image/png;base64,{data}">'


# What excites a few neurons of every finished stage of a run, in pictures: needs its data, and torch.

AROUND = 0.2  # seconds of a spectrogram before and after what the row sees

Report = Callable[..., None]


def neurons(run: RunFolder, report: Report) -> Iterator[str]:
    """Yield the parts of a page: for every finished stage, what excites a few of its neurons.

    Every stage takes one pass over the test items, from the nearest store.

    Args:
        run: the run directory.
        report: told ("probe", …) after every item.

    Raises:
        DataError: the data is not there, or is not what the run was made with.
    """
    locked = run.locked
    assert locked is not None
    plan = outline_pipeline(pipeline_of(run), run, report)
    if not isinstance(plan, Plan):
        raise DataError(
            f"the data of {run.path} is not there, so what excites its neurons cannot be shown: leave out "
            "--exciting, or type `stagewise run FILE` to fetch it."
        )
    for stage, then in zip(plan.stages, locked["stages"], strict=True):
        if stage.fingerprint != then["fingerprint"]:
            raise DataError(
                f"stage {stage.name} of {run.path} was made with other data, or by another version: leave out "
                "--exciting, or type `stagewise run FILE` to make it again."
            )
    if not isinstance(plan.data, Images):
        yield note(
            "What a row sees is drawn as a wave, or, if it is long enough, as a spectrogram between two white lines; "
            "a recurrent stage also remembers what came before."
        )
    for position, stage in enumerate(plan.stages):
        if stage.record is not None:
            yield heading(4, f"Stage {stage.index}, {stage.name}")
            yield from _strips(plan, position, plan.data, report)


def _strips(plan: Plan, position: int, dataset: Dataset, report: Report) -> Iterator[str]:
    stage, chain = plan.stages[position], Chain(*input_of(plan, position + 1), plan.device, means=True)
    items = dataset.split("test").tolist()

    def told() -> Iterator[int]:
        for number, item in enumerate(items, 1):
            yield item
            report("probe", probe="exciting", stage=stage.name, items=number, of=len(items))

    found = exciting(chain.rows, told())
    if not found:
        yield note("No test item is long enough to have a row.")
    for neuron in found:
        cells = [_cell(dataset, stage.built.geometry, example) for example in neuron.examples]
        yield strip(f"Channel {neuron.channel}", cells)


def _cell(dataset: Dataset, geometry: Geometry, example: Excited) -> tuple[str, str]:
    """Return a picture of what a row sees, and its caption."""
    if isinstance(dataset, Images):
        place, small = _patch(dataset, example)
    else:
        place, small = _sound(dataset, geometry, example)
    return small, f"{dataset.keys[example.item]}, {place}: {example.value:.3g}"


def _patch(images: Images, example: Excited) -> tuple[str, str]:
    pixels_HWC = images.image(example.item)
    if not images.patch:
        return "whole", patch(pixels_HWC, "The pixels of the image")
    row, column = divmod(example.row, int(images.grids[example.item, 1]))
    top, left = row * images.stride, column * images.stride
    pixels_HWC = pixels_HWC[top : top + images.patch, left : left + images.patch]
    return f"row {row}, column {column}", patch(pixels_HWC, "The pixels of the patch")


def _sound(dataset: Dataset, geometry: Geometry, example: Excited) -> tuple[str, str]:
    """Show what a row sees: as a wave, or with its surroundings as a spectrogram."""
    length, rate = int(dataset.lengths[example.item]), dataset.sample_rate
    begin = example.row * geometry.hop + geometry.first
    begin, end = max(0, begin), min(length, begin + geometry.receptive_field)
    if end - begin < FRAME * rate:
        samples_T = dataset.read(example.item, begin, end).mean(0)
        return f"{begin / rate:.4f} to {end / rate:.4f} s", wave(samples_T, "The wave that the row sees")
    around = round(AROUND * rate)
    start, stop = max(0, begin - around), min(length, end + around)
    samples_T = dataset.read(example.item, start, stop).mean(0)
    seen = (begin - start) / rate, (end - start) / rate
    small = spectrogram(samples_T, rate, seen, "Spectrogram around what the row sees")
    return f"{begin / rate:.2f} to {end / rate:.2f} s", small
