"""One step of all stages in training, lowest first: each one's backward comes right after its own forward.

So only one stage's graph exists at a time, and what a stage hands on are rows without a graph. One stage alone is the
case of one. Legend: B items, C channels, T rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stagewise.modules.geometry import Geometry
from stagewise.modules.stage_module import Crop, represent
from stagewise.objectives import Score
from stagewise.seeds import derive_seed
from stagewise.training.job import Member
from stagewise.training.step import Trainee, train_step
from stagewise.windows.draw import Batch

NEARLY_ALL = 0.75  # of a stage's rows: a graph over the others costs less than a second forward pass


@dataclass(frozen=True)
class Place:
    """Where a stage's window lies.

    Attributes:
        begin, end: rows of its input that the window needs.
        crop: cuts the window out of what they give.
        first_B: the window's first row, counted from each item's beginning.
        whole: whether it is (nearly) all that the stage gives, so that the same forward pass hands rows on.
    """

    begin: int
    end: int
    crop: Crop
    first_B: npt.NDArray[np.int64]  # noqa: N815
    whole: bool


def places(members: Sequence[Member], batch: Batch, *seed: str | int) -> list[Place]:
    """Find every member's window inside what a batch was read for, which is the topmost member's window.

    Those below score rows drawn at random among the rows that the ends of the piece have not spoilt.
    """
    found = []
    length = batch.rows if batch.grid else batch.span
    for member in members[:-1]:
        if batch.grid:
            found.append(Place(0, length, batch.crop, batch.begins, True))
            continue
        low, high = intact_rows(member.geometry, batch.span)
        rows = min(member.rows, high - low)
        rng = np.random.Generator(np.random.Philox(derive_seed(*seed, member.name, "place")))
        start = low + int(rng.integers(high - low - rows + 1))
        begin, end, skip = member.trainee.stage.geometry.piece(start, start + rows, length)
        whole = rows >= NEARLY_ALL * member.geometry.rows(batch.span)
        if whole:
            begin, end, skip = 0, length, start
        crop = Crop((skip,) * len(batch.items), rows)
        found.append(Place(begin, end, crop, batch.begins // member.geometry.hop + start, whole))
        length = member.trainee.stage.geometry.rows(length)
    top = batch.begins if batch.grid else batch.begins // members[-1].geometry.hop + np.array(batch.skips)
    return [*found, Place(0, length, batch.crop, top, True)]


def intact_rows(geometry: Geometry, span: int) -> tuple[int, int]:
    """Return the rows [low, high) of a piece of `span` input rows that see nothing but it."""
    low = -(geometry.first // geometry.hop)
    return low, (span - geometry.first - geometry.receptive_field) // geometry.hop + 1


def train_together(
    trainees: Sequence[Trainee],
    x_BCT: Tensor,
    where: Sequence[Place],
    generators: Sequence[torch.Generator],
    classes: Sequence[Tensor | None],
    due: Sequence[bool],
    step: Callable[[Trainee, Tensor, Crop, torch.Generator, Tensor | None], Score] = train_step,
) -> list[Score | None]:
    """Update every stage that is due by one batch, and hand what each gave before its update to the next.

    Args:
        trainees: the stages, lowest first.
        x_BCT: the batch, as the lowest takes it.
        where: each one's window.
        generators: where each one's objective draws from.
        classes: of each one's window, if it needs them.
        due: which are updated in this step.
        step: what updates one.

    Returns:
        Each one's score before the update, None where none was due.
    """
    scores: list[Score | None] = []
    for trainee, place, generator, y, now in zip(trainees, where, generators, classes, due, strict=True):
        top = trainee is trainees[-1]
        trainee.hands_on = now and place.whole and not top
        rows_BCT = None if top or trainee.hands_on else represent([trainee.stage], x_BCT)
        if now:
            window_BCT = x_BCT if place.whole else x_BCT[:, :, place.begin : place.end]
            scores.append(step(trainee, window_BCT, place.crop, generator, y))
        else:
            scores.append(None)
        if not top:
            handed_on = trainee.rows if rows_BCT is None else rows_BCT
            assert handed_on is not None
            x_BCT = handed_on
            trainee.rows = handed_on = rows_BCT = None
    return scores
