"""What excites a few neurons of every finished stage of a run, in pictures: needs its data, and torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stagewise.datasets.base import Dataset
from stagewise.datasets.images import Images
from stagewise.encoding.encode import Chain
from stagewise.errors import DataError
from stagewise.inputs import input_of
from stagewise.modules.geometry import Geometry
from stagewise.planning.plan import Plan
from stagewise.reporting import segment
from stagewise.reporting.exciting import Excited, exciting
from stagewise.reporting.page import heading, note, strip
from stagewise.runner import plan_pipeline
from stagewise.runs.folder import RunFolder, pipeline_of

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
    plan = plan_pipeline(pipeline_of(run), run, report)
    if not isinstance(plan.size, Dataset):
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
    if not isinstance(plan.size, Images):
        yield note(
            "What a row sees is drawn as a wave, or, if it is long enough, as a spectrogram between two white lines; "
            "a recurrent stage also remembers what came before."
        )
    for position, stage in enumerate(plan.stages):
        if stage.record is not None:
            yield heading(4, f"Stage {stage.index}, {stage.name}")
            yield from _strips(plan, position, plan.size, report)


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
        return "whole", segment.patch(pixels_HWC, "The pixels of the image")
    row, column = divmod(example.row, int(images.grids[example.item, 1]))
    top, left = row * images.stride, column * images.stride
    pixels_HWC = pixels_HWC[top : top + images.patch, left : left + images.patch]
    return f"row {row}, column {column}", segment.patch(pixels_HWC, "The pixels of the patch")


def _sound(dataset: Dataset, geometry: Geometry, example: Excited) -> tuple[str, str]:
    """Show what a row sees: as a wave, or with its surroundings as a spectrogram."""
    length, rate = int(dataset.lengths[example.item]), dataset.sample_rate
    begin = example.row * geometry.hop + geometry.first
    begin, end = max(0, begin), min(length, begin + geometry.receptive_field)
    if end - begin < segment.FRAME * rate:
        samples_T = dataset.read(example.item, begin, end).mean(0)
        return f"{begin / rate:.4f} to {end / rate:.4f} s", segment.wave(samples_T, "The wave that the row sees")
    around = round(AROUND * rate)
    start, stop = max(0, begin - around), min(length, end + around)
    samples_T = dataset.read(example.item, start, stop).mean(0)
    seen = (begin - start) / rate, (end - start) / rate
    small = segment.spectrogram(samples_T, rate, seen, "Spectrogram around what the row sees")
    return f"{begin / rate:.2f} to {end / rate:.2f} s", small
