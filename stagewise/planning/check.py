"""Which items stages are trained on, and what of a plan is refused before anything runs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from stagewise.arrays import Ints
from stagewise.datasets.base import Dataset, Expected, read_rows
from stagewise.datasets.construct import check_classes
from stagewise.datasets.images import Images
from stagewise.errors import ConfigError, DataError
from stagewise.modules.geometry import Geometry
from stagewise.objectives.base import Supervised
from stagewise.pipeline import Objective
from stagewise.planning.build import BuiltStage
from stagewise.planning.stage_plan import StageOutline, StagePlan
from stagewise.seeds import derive_seed
from stagewise.text import counted
from stagewise.training.windows import Classes

# Which items the stages of a plan are trained on: known from the labels and the seed, before anything runs.

Bools = npt.NDArray[np.bool_]
FEW = 0.1  # share of the items: a stage that is trained on less has hardly seen the data
HEARD = 1 << 16  # rows of an item that are read at a time, to see whether it is silent


def trainable(dataset: Dataset, built: Iterable[BuiltStage]) -> Ints:
    """Return what stages in sync may be trained on: labelled items if an objective needs labels, else all there are."""
    labels = [(stage.objective.labels, stage) for stage in built if isinstance(stage.objective, Supervised)]
    if not labels:
        return dataset.pool()
    items = dataset.split("train")
    for label, stage in labels:
        items = Classes(dataset, label, stage.geometry).known(items)
    return items


def splits(dataset: Dataset, built: Sequence[BuiltStage], fraction: float, seed: int) -> npt.NDArray[np.str_]:
    """Say what every item is for when stages in sync are trained: train, validation, test or none; all views alike."""
    train, validation = held_out(dataset, built, fraction, seed)
    words_N = np.full(len(dataset), "none", "<U10")
    for word, items in (("train", train), ("validation", validation), ("test", dataset.split("test"))):
        words_N[(items[:, None] + np.arange(dataset.views)).ravel()] = word
    return words_N


def held_out(dataset: Dataset, built: Sequence[BuiltStage], fraction: float, seed: int) -> tuple[Ints, Ints]:
    """Split the training items of stages in sync: those that are trained on, and those that tell when to stop.

    Args:
        dataset: with the items.
        built: the stages, lowest first.
        fraction: of the items that is held out.
        seed: of the pipeline.
    """
    items = trainable(dataset, built)
    return hold_out(items, fraction, seed, filling(dataset, built[-1], items), lambda item: silent(dataset, item))


def hold_out(
    items: Ints,
    fraction: float,
    seed: int,
    fill_N: Bools | None = None,
    is_silent: Callable[[int], bool] = lambda _: False,
) -> tuple[Ints, Ints]:
    """Split items at random; what fills no window cannot tell when to stop, and what is silent does not tell alone.

    Args:
        items: rising.
        fraction: that is held out: one item at least, if there are two.
        seed: of the pipeline.
        fill_N: whether each item fills a window; all when left out.
        is_silent: says whether an item is; asked until one is not.
    """
    order = np.random.Generator(np.random.Philox(derive_seed(seed, "validation"))).permutation(items)
    if fill_N is not None:
        order = order[np.isin(order, items[fill_N])]
    count = min(len(order) - 1, max(1, round(fraction * len(order)))) if fraction > 0 and len(order) else 0
    tell = order[:count]
    if count:
        # Its loss is that of guessing from the first epoch to the last: the training would be thrown away.
        heard = next((place for place, item in enumerate(order.tolist()) if not is_silent(item)), 0)
        tell = tell if heard < count else order[heard : heard + 1]
    return np.setdiff1d(items, tell), np.sort(tell)


def filling(dataset: Dataset, top: BuiltStage, items: Ints) -> Bools:
    """Say which items fill a window of a stage, or hold a crop: those that it is trained on."""
    if top.grid is not None:
        assert dataset.grids is not None
        return np.asarray((dataset.grids[items] >= np.array(top.grid)).all(1), np.bool_)
    lengths = dataset.lengths[items].tolist()
    fill = {length: top.geometry.window_starts(length, top.rows) > 0 for length in set(lengths)}
    return np.array([fill[length] for length in lengths], np.bool_)


def few_items(dataset: Dataset, built: Sequence[BuiltStage]) -> str:
    """Say that stages in sync are trained on less than a tenth of their items; "" if they are not."""
    items = trainable(dataset, built)
    used = int(filling(dataset, built[-1], items).sum())
    if used >= FEW * len(items):
        return ""
    shorter = "shorter than its window: lower objective.window"
    why = shorter if built[-1].grid is None else "smaller than a crop: lower data.crop"
    return f"only {used:,} of {counted(len(items), 'item')} can be trained on, and all others are {why}"


def silent(dataset: Dataset, item: int) -> bool:
    """Say whether all rows of an item are the same; of one that cannot be read, training says what is wrong."""
    length = int(dataset.lengths[item])
    first: npt.NDArray[np.float32] | None = None
    for start in range(0, length, HEARD):
        try:
            rows = read_rows(dataset, item, start, min(length, start + HEARD))
        except DataError:
            return False
        first = rows[:, :1] if first is None else first
        if not (rows == first).all():
            return False
    return True


# What the stages of a plan may not ask for: known before anything runs, and said with the key's place.

SHARED = ("epochs", "batch_size", "patience", "windows_per_item", "checkpoint")  # by stages in sync


def check_stages(stages: Sequence[StageOutline], schedule: str, data: Dataset | Expected) -> None:
    """Refuse what has no meaning for images or in a stage's schedule, and what an objective cannot score.

    Raises:
        ConfigError: there is such a key.
    """
    for stage in stages:
        _check_kind(stage.built)
        _check_rows(stage.built, data)
        if len(stage.together) > 1:
            _check_in_sync(stage.built, stages[stage.together[-1]].built)
        elif stage.built.config.train.every != 1 and schedule == "iterative":
            where = stage.built.where("train.every")
            raise ConfigError(f'{where}: needs pipeline.schedule = "simultaneous"; leave it out.')


def check_data(stages: Sequence[StagePlan], dataset: Dataset, fraction: float, seed: int) -> None:
    """Refuse labels of the wrong kind, and data that holds nothing to train a stage on.

    Args:
        stages: of the plan.
        dataset: that they are trained on.
        fraction: of its training items that is held out.
        seed: of the pipeline.

    Raises:
        ConfigError: a label is not one that an objective can learn from.
        DataError: there is nothing that an objective could learn from.
    """
    for stage in stages:
        _check_labels(stage.built, dataset)
        _check_fit(stages, stage, dataset, fraction, seed)


def _check_kind(stage: BuiltStage) -> None:
    if stage.grid and stage.config.train.windows_per_item == "cover":
        raise ConfigError(f'{stage.where("train.windows_per_item")}: "cover" is for recordings; give images a number.')
    if stage.grid and stage.config.objective.window != Objective().window:
        where = stage.where("objective.window")
        raise ConfigError(f"{where}: is for recordings; of images, data.crop says what is scored: leave it out.")


def _check_labels(stage: BuiltStage, dataset: Dataset) -> None:
    objective = stage.objective
    if not isinstance(objective, Supervised):
        return
    kind = dataset.label_kind(objective.labels)
    if (kind == "frames") != objective.per_row:
        needed, given = ("frame", "item") if objective.per_row else ("item", "frame")
        raise ConfigError(
            f"{stage.where('objective')}: it needs one class per {needed}, and label "
            f"'{objective.labels}' is one per {given}. Set its `pool` to suit, or name another label."
        )
    check_classes(
        dataset,
        objective.labels,
        stage.where("objective"),
        "Give the data its labels (images lie in one folder per class), or choose an objective that needs none.",
    )


def _check_rows(built: BuiltStage, data: Dataset | Expected) -> None:
    """Refuse a window, or a grid of patches, that the objective cannot score."""
    objective = built.objective
    # The objective sees an image that is one patch alone as the map that it is.
    there = built.rows if built.grid is None else built.grid[0] if built.rows > 1 else built.module.out_shape[1]
    least = objective.least_rows
    if there >= least:
        return
    if built.grid is None:
        problem, advice = f"a window of {least} rows or more, not {there}", f"window = {least}"
    else:
        problem, advice = f"{least} rows of patches, and data.crop gives {there}", "a larger data.crop"
        if isinstance(data, Images) and data.patch:
            advice = f"data.crop = {data.patch + (least - 1) * data.stride}"
    fewer = getattr(objective, "steps", 0) - (least - there)
    steps = f", or steps = {fewer}" if fewer > 0 else ""
    raise ConfigError(f"{built.where('objective')}: it needs {problem}: write {advice}{steps}.")


def _check_fit(stages: Sequence[StagePlan], stage: StagePlan, dataset: Dataset, fraction: float, seed: int) -> None:
    """Refuse items of which none that is trained on holds a window, before the stages below are trained in vain."""
    first, top = stages[stage.together[0]], stages[stage.together[-1]]
    built = [stages[position].built for position in stage.together]
    if stage is not top or stage.record is not None or not max(part.epochs for part in built):
        return
    items, _ = held_out(dataset, built, fraction, seed)
    if isinstance(dataset, Images):
        if not (dataset.grids[items] >= dataset.crop).all(1).any():
            raise too_small(stage, dataset, items)
        return
    below, geometry = Geometry(), Geometry()
    for other in stages[: top.index]:
        geometry += other.built.module.geometry
        if other.index < first.index and other.store_state == "written":
            below, geometry = other.built.geometry, Geometry()
    longest = below.rows(int(dataset.lengths[items].max(initial=0)))
    if not geometry.window_starts(longest, stage.built.rows):
        raise too_short(stage, geometry, longest)


def too_short(stage: StagePlan, geometry: Geometry, longest: int) -> DataError:
    """Say that no item is long enough for a window, and the largest window that fits the longest."""
    rows, least = stage.built.rows, max(2, stage.built.objective.least_rows)
    fits = bisect_left(range(1, rows), True, key=lambda window: not geometry.window_starts(longest, window))
    advice = (
        f"Lower it, for example with `--set stage.{stage.name}.objective.window={fits}`."
        if fits >= least
        else f"Its objective needs {least}: join the items, or make kernels and strides smaller, here or below."
    )
    return DataError(
        f"stage {stage.name}: no training item is long enough for a window of {rows} rows, which takes "
        f"{geometry.window_span(rows)} rows of its input (the longest item has {longest}). {advice}"
    )


def too_small(stage: StagePlan, size: Images, items: npt.NDArray[np.int64]) -> DataError:
    """Say that no image of some is large enough for a crop, and the largest crop that fits the largest."""
    (R, S), most = size.crop, int(size.grids[items].min(1).max(initial=1))
    lower = f"Lower it, for example with `--set data.crop={size.patch + (most - 1) * size.stride}`, or enlarge"
    return DataError(
        f"stage {stage.name}: no training image holds a crop of {R} × {S} patches. "
        f"{lower if most >= stage.built.objective.least_rows else 'Enlarge'} the images, for example with "
        f"`--set data.size={size.patch + (R - 1) * size.stride}`."
    )


def _check_in_sync(stage: BuiltStage, top: BuiltStage) -> None:
    train = stage.config.train
    if train.noise:
        raise ConfigError(
            f"{stage.where('train.noise')}: is for stages that are trained alone; leave it out, or set "
            'pipeline.schedule = "iterative".'
        )
    if stage is not top and stage.module.recurrent:
        raise ConfigError(
            f"{stage.where('')}: only the topmost of stages that are trained in sync may be recurrent. Move it to "
            'the top, or set pipeline.schedule = "iterative".'
        )
    for name in SHARED:
        if getattr(train, name) != getattr(top.config.train, name):
            where = stage.where(f"train.{name}")
            raise ConfigError(f"{where}: stages that are trained in sync have one {name}; set it in [defaults.train].")
