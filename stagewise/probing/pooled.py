"""One vector an item and stage, computed in one pass over the items for all probes that read it, trained or random.

Shape suffixes: C channels, n rows of a piece.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from stagewise.datasets.base import Dataset
from stagewise.encoding.encode import rows_of
from stagewise.encoding.ladder import Rung
from stagewise.errors import NumberError
from stagewise.modules.patch_stage import means as means_of_patches
from stagewise.probing.features import check_numbers
from stagewise.probing.rows import Rows
from stagewise.runs.item_means import ItemMeans
from stagewise.show import counted
from stagewise.stopping import Stop

SAVE_SECONDS = 300.0  # of work that a kill may cost
Ints = npt.NDArray[np.int64]


@dataclass
class Wanted:
    """Means that probes on one stage will read.

    Attributes:
        probes: their names.
        stage: its name.
        position: of the stage.
        dataset: whose items.
        random: whether the stage is at its random start.
        items: that are to be there.
        means: of those that are.
    """

    probes: tuple[str, ...]
    stage: str
    position: int
    dataset: Dataset
    random: bool
    items: Ints
    means: ItemMeans


def pool_items(rows: Rows, wanted: Sequence[Wanted], stop: Stop, report: Callable[..., None]) -> None:
    """Compute the means that are missing, and keep them.

    Args:
        rows: where they come from.
        wanted: of all stages.
        stop: asked after every item; what is done is kept.
        report: told ("probe", probe=…, stage=…, random=…, items=…, of=…) after every item.

    Raises:
        NumberError: a representation is NaN or infinite.
        Interrupted: a signal asked to stop.
        DiskError: they cannot be written.
    """
    missing = [each for each in wanted if any(item not in each.means for item in each.items.tolist())]
    for dataset in {id(each.dataset): each.dataset for each in missing}.values():
        some = [each for each in missing if each.dataset is dataset]
        items = sorted({item for each in some for item in each.items.tolist() if item not in each.means})
        walks = [_Walk(ladder, there) for ladder, there in _ladders(rows, dataset, some)]
        names = {
            "probe": ", ".join(dict.fromkeys(name for each in some for name in each.probes)),
            "stage": some[0].stage if len(some) == 1 else counted(len({each.stage for each in some}), "stage"),
            "random": all(each.random for each in some),
        }
        saved = time.monotonic()
        try:
            for number, item in enumerate(items, 1):
                for walk in walks:
                    walk.take(item)
                stop.check(f"the stages are complete; {number} of {len(items)} items are read for the probes.")
                report("probe", **names, items=number, of=len(items))
                if time.monotonic() - saved > SAVE_SECONDS:
                    for each in some:
                        each.means.save()
                    saved = time.monotonic()
        finally:
            for each in some:
                each.means.save()


def _ladders(rows: Rows, dataset: Dataset, some: Sequence[Wanted]) -> list[tuple[dict[int, Rung], dict[int, Wanted]]]:
    found = []
    for random in (False, True):
        there = {each.position: each for each in some if each.random == random}
        if there:
            found += [(ladder, there) for ladder in rows.ladders(dataset, there, random)]
    return found


class _Walk:
    """Goes through the items with one ladder."""

    def __init__(self, ladder: dict[int, Rung], wanted: dict[int, Wanted]) -> None:
        self.steps = []
        for position in sorted(ladder, reverse=True):  # the top draws the rows of those below
            rung, each = ladder[position], wanted[position]
            total_C = np.zeros(rung.chain.channels)
            rung.hear = _adding(total_C)
            self.steps.append((rung, each, total_C))

    def take(self, item: int) -> None:
        """Compute the means of an item."""
        for _, _, total_C in self.steps:
            total_C[:] = 0
        for rung, each, total_C in self.steps:
            rung.finish_item(item)
            if item in each.means or not rung.lengths[item]:
                continue
            mean_C = (total_C / rung.lengths[item]).astype(np.float32)
            try:
                check_numbers(mean_C, each.dataset, item)
            except NumberError as error:
                raise NumberError(f"probe {', '.join(each.probes)} on stage {each.stage}: {error}") from None
            each.means.add(item, mean_C)


def _adding(total_C: npt.NDArray[np.float64]) -> Callable[[Tensor], None]:
    def hear(piece: Tensor) -> None:
        rows_nC = rows_of(means_of_patches(piece) if piece.ndim == 5 else piece)
        np.add(total_C, rows_nC.sum(0, dtype=np.float64), out=total_C)

    return hear
