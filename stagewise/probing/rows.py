"""Rows and pooled vectors of a stage, for probes: read from its store or computed in one pass.

Legend: C channels, n rows of a piece.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor

from stagewise.arrays import Ints
from stagewise.datasets.base import Dataset
from stagewise.datasets.images import Images
from stagewise.encoding.encode import Chain, calibrate, rows_of
from stagewise.encoding.ladder import Rung, as_stored
from stagewise.errors import NumberError
from stagewise.modules.patches import means as means_of_patches
from stagewise.modules.stage_module import StageModule
from stagewise.planning.build import Input, build_stages
from stagewise.planning.plan import Plan
from stagewise.probing.features import check_numbers
from stagewise.runs.items import ItemMeans
from stagewise.stages import load_weights
from stagewise.stopping import Stop
from stagewise.stores import Scaling, StoreReader
from stagewise.text import counted
from stagewise.training.feed import CentreSource, RawSource, Source, StoreSource

# Where a probe's rows come from: the nearest store, or the data through all stages, trained or at their random start.
#
# Rows of the random start are rounded as the stores of the trained stages round theirs, so that both are read alike.

Stores = tuple[str | None, ...]  # dtype of the store that a row of each stage has passed, lowest first; None: of none


def stores_below(plan: Plan, position: int) -> Stores:
    """Return which stores the rows of a trained stage have passed when all stages are done."""
    written = [stage.policy.write for stage in plan.stages]
    kept = [
        write and (stage.built.config.store.keep or not any(written[stage.index :]))
        for write, stage in zip(written, plan.stages, strict=True)
    ]
    nearest = max((below for below in range(position + 1) if kept[below]), default=-1)
    return tuple(
        stage.built.config.store.dtype if write and below <= nearest else None
        for below, (write, stage) in enumerate(zip(written[: position + 1], plan.stages, strict=False))
    )


class Rows:
    """Chains to the rows that probes read.

    Args:
        plan: of stages that are done.
        stop: asked while int8 is calibrated.
    """

    def __init__(self, plan: Plan, stop: Stop) -> None:
        self.plan, self.stop = plan, stop
        self._scalings: dict[Stores, Scaling] = {}

    def ladders(self, dataset: Dataset, positions: Collection[int], random: bool) -> list[dict[int, Rung]]:
        """Return the rows of some stages by position, in as few ladders as they fit into.

        What stands in one ladder is computed together: a stage reads what was computed for those below.

        Args:
            dataset: the pipeline's, or a probe's own.
            positions: of the stages.
            random: whether they are at their random start.
        """
        tops: dict[tuple[int, Stores], list[int]] = {}
        for position in sorted(positions, reverse=True):
            base, stores = self._way(dataset, position, random)
            fits = (top for top in tops if top[0] == base and top[1][: len(stores)] == stores)
            tops.setdefault(next(fits, (base, stores)), []).append(position)
        found = ((self._ladder(dataset, *top, random), served) for top, served in tops.items())
        return [{position: ladder[position] for position in served} for ladder, served in found]

    def chain(self, dataset: Dataset, position: int, random: bool) -> Chain:
        """Return the chain to the rows of one stage."""
        (ladder,) = self.ladders(dataset, [position], random)
        return ladder[position].chain

    def _way(self, dataset: Dataset, position: int, random: bool) -> tuple[int, Stores]:
        """Return how many stages the store that is read covers, and which stores the rows pass on top of it."""
        none = (None,) * (position + 1)
        if dataset is not self.plan.size:
            return 0, none
        if random:
            return 0, stores_below(self.plan, position)
        records = [stage.record for stage in self.plan.stages[: position + 1]]
        written = [n for n, record in enumerate(records, 1) if record and record["store"]["state"] == "written"]
        base = max(written, default=0)
        return base, none[base:]

    def _ladder(
        self, dataset: Dataset, base: int, stores: Stores, random: bool, centred: bool = True
    ) -> dict[int, Rung]:
        stages, device = self.plan.stages, self.plan.device
        source: Source = RawSource(dataset)
        if base:
            folder = stages[base - 1].folder
            assert folder is not None
            source = StoreSource(StoreReader(folder))
        if centred and isinstance(dataset, Images):
            source = CentreSource(source, dataset)
        found = {base - 1: Rung(Chain(source, [], device))} if base else {}
        for position, dtype in enumerate(stores, base):
            built = stages[position].built
            module = self._start[position] if random else self._trained(position)
            rounding = None
            if dtype is not None and dtype != "float32":
                scaling = self._scaling(stores[: position + 1]) if dtype == "int8" else None
                rounding = as_stored(dtype, scaling)
            source = found[position] = Rung(Chain(source, [module], device, built.means, rounding))
        return found

    def _scaling(self, stores: Stores) -> Scaling:
        """Calibrate the int8 store that a stage would have at its random start, as that of a trained one is."""
        if stores not in self._scalings:
            assert isinstance(self.plan.size, Dataset)
            below = self._ladder(self.plan.size, 0, stores[:-1], random=True, centred=False)
            top = len(stores) - 1
            source = below[top - 1] if top else RawSource(self.plan.size)
            chain = Chain(source, [self._start[top]], self.plan.device, self.plan.stages[top].built.means)
            self._scalings[stores] = calibrate(chain, self.stop)
        return self._scalings[stores]

    @cached_property
    def _start(self) -> list[StageModule]:
        assert isinstance(self.plan.size, Dataset)
        built = build_stages(self.plan.pipeline, Input.of(self.plan.size), self.plan.device)
        return [stage.module.to(self.plan.device).eval().requires_grad_(False) for stage in built]

    def _trained(self, position: int) -> StageModule:
        stage = self.plan.stages[position]
        assert stage.folder is not None
        return load_weights(stage.built.module, stage.folder).to(self.plan.device)


# One vector an item and stage, computed in one pass over the items for all probes that read it, trained or random.

SAVE_SECONDS = 300.0  # of work that a kill may cost


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
