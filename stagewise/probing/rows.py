"""Rows and pooled vectors of a stage, for probes: read from its store or computed in one pass.

Legend: C channels, n rows of a piece.
"""

from __future__ import annotations

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from pathlib import Path

import numpy as np
from torch import Tensor

from stagewise import durable
from stagewise.arrays import Floats, Ints
from stagewise.datasets.base import Dataset
from stagewise.datasets.images import Images
from stagewise.encoding.encode import Chain, calibrate, rows_of
from stagewise.encoding.shared_pass import Rung, as_stored
from stagewise.errors import NumberError
from stagewise.modules.patches import means as means_of_patches
from stagewise.modules.stage_module import StageModule
from stagewise.pipeline import Pool
from stagewise.planning.plan import Plan
from stagewise.pooling import Pooling
from stagewise.probing.features import check_numbers, labelled
from stagewise.runs.items import ItemMeans
from stagewise.signals import Stop
from stagewise.stages import frozen
from stagewise.stores import Scaling, StoreReader
from stagewise.text import counted
from stagewise.training.feed import CentreSource, RawSource, Source, StoreSource
from stagewise.training.windows import Alignment

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

    def lie_in_a_store(self, dataset: Dataset, position: int, random: bool) -> bool:
        """Say whether the rows of a stage need not be computed."""
        return self._way(dataset, position, random)[0] == position + 1

    def _way(self, dataset: Dataset, position: int, random: bool) -> tuple[int, Stores]:
        """Return how many stages the store that is read covers, and which stores the rows pass on top of it."""
        none = (None,) * (position + 1)
        if dataset is not self.plan.data:
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
            source = StoreSource(StoreReader(stages[base - 1].folder))
        if centred and isinstance(dataset, Images):
            source = CentreSource(source, dataset)
        found = {base - 1: Rung(Chain(source, [], device))} if base else {}
        for position, dtype in enumerate(stores, base):
            built = stages[position].built
            module = self._start[position] if random else frozen(stages[position], device)
            rounding = None
            if dtype is not None and dtype != "float32":
                scaling = self._scaling(stores[: position + 1]) if dtype == "int8" else None
                rounding = as_stored(dtype, scaling)
            source = found[position] = Rung(Chain(source, [module], device, built.means, rounding))
        return found

    def _scaling(self, stores: Stores) -> Scaling:
        """Calibrate the int8 store that a stage would have at its random start, as that of a trained one is."""
        if stores not in self._scalings:
            below = self._ladder(self.plan.data, 0, stores[:-1], random=True, centred=False)
            top = len(stores) - 1
            source = below[top - 1] if top else RawSource(self.plan.data)
            chain = Chain(source, [self._start[top]], self.plan.device, self.plan.stages[top].built.means)
            self._scalings[stores] = calibrate(chain, self.stop)
        return self._scalings[stores]

    @cached_property
    def _start(self) -> list[StageModule]:
        modules = (deepcopy(stage.built.module).to(self.plan.device) for stage in self.plan.stages)
        return [module.eval().requires_grad_(False) for module in modules]


# What probes read, in one pass over the items for all of them, on trained stages and on those before training.

SAVE_SECONDS = 300.0  # of work that a kill may cost
MEMORY_BYTES = 256 * 2**20  # that is held in memory, of means and of rows; more lies on the disk


@dataclass(eq=False)
class Wanted(ABC):
    """What probes on one stage read.

    Attributes:
        probes: their names.
        stage: its name.
        position: of the stage.
        dataset: whose items.
        random: whether the stage is at its random start.
        items: that are still to be read, in order.
    """

    probes: tuple[str, ...]
    stage: str
    position: int
    dataset: Dataset
    random: bool
    items: Ints

    @abstractmethod
    def begin(self, item: int, length: int) -> None:
        """Prepare for an item of so many rows."""

    @abstractmethod
    def hear(self, rows_nC: Floats) -> None:
        """Take the next rows of the item."""

    @abstractmethod
    def end(self) -> None:
        """Finish the item."""

    @abstractmethod
    def close(self) -> None:
        """Keep what was read."""


@dataclass(eq=False)
class MeanRows(Wanted):
    """The pooled rows of every item; `means` keeps them, also for other probes."""

    means: ItemMeans
    pool: Pool = "mean"

    def begin(self, item: int, length: int) -> None:  # noqa: ARG002 (rows are counted as they come)
        """Prepare for an item of so many rows."""
        self._item, self._pooling = item, Pooling(self.pool)

    def hear(self, rows_nC: Floats) -> None:
        """Add the next rows of the item."""
        self._pooling.add(rows_nC)

    def end(self) -> None:
        """Keep the item's vector."""
        if self._pooling.count:
            pooled_C = self._pooling.vector()
            check_numbers(pooled_C, self.dataset, self._item)
            self.means.add(self._item, pooled_C)

    def close(self) -> None:
        """Save the means."""
        self.means.save()


@dataclass(eq=False)
class LabelledRows(Wanted):
    """The row of every labelled frame, in the order of the items.

    Attributes:
        labels: name of the labels.
        alignment: of their frames with rows.
        folder: of the file, without a name, that the rows are put into: no kill can leave it behind.
        in_memory: put them into memory instead.
        channels: of a row.
        rows_NC: all of them, once everything is read.
    """

    labels: str
    alignment: Alignment
    folder: Path
    in_memory: bool
    channels: int
    rows_NC: Floats = field(init=False)  # noqa: N815

    def __post_init__(self) -> None:
        """Open the file."""
        with durable.disk_errors(self.folder):
            self._file = BytesIO() if self.in_memory else tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115

    def begin(self, item: int, length: int) -> None:
        """Prepare for an item of so many rows."""
        self._item, self._passed = item, 0
        self._rows, _ = labelled(self.dataset, self.labels, self.alignment, item, length)

    def hear(self, rows_nC: Floats) -> None:
        """Keep those of the next rows that have a label."""
        rows = self._rows - self._passed
        inside_nC = rows_nC[rows[(rows >= 0) & (rows < len(rows_nC))]]
        check_numbers(inside_nC, self.dataset, self._item)
        self._passed += len(rows_nC)
        with durable.disk_errors(self.folder):
            self._file.write(inside_nC.tobytes())

    def end(self) -> None:
        """Finish the item: all of it is kept."""

    def close(self) -> None:
        """Map the rows into memory: the file is there for as long as they are."""
        with durable.disk_errors(self.folder), self._file as file:
            file.flush()
            if isinstance(file, BytesIO):
                self.rows_NC = np.frombuffer(file.getvalue(), np.float32).reshape(-1, self.channels)
            elif file.tell():
                self.rows_NC = np.memmap(file, np.float32, "r").reshape(-1, self.channels)
            else:  # nothing cannot be mapped
                self.rows_NC = np.empty((0, self.channels), np.float32)


def read_items(rows: Rows, wanted: Sequence[Wanted], stop: Stop, report: Callable[..., None]) -> None:
    """Read what is wanted of all items that it is wanted of; means are kept.

    Args:
        rows: where they come from.
        wanted: of all stages.
        stop: asked after every item.
        report: told ("probe", probe=…, stage=…, random=…, items=…, of=…) after every item.

    Raises:
        NumberError: a representation is NaN or infinite.
        Interrupted: a signal asked to stop.
        DiskError: they cannot be written.
    """
    missing = [each for each in wanted if len(each.items)]
    for dataset in {id(each.dataset): each.dataset for each in missing}.values():
        some = [each for each in missing if each.dataset is dataset]
        items = np.unique(np.concatenate([each.items for each in some])).tolist()
        walks = [_Walk(ladder, there) for ladder, there in _ladders(rows, dataset, some)]
        means = [each.means for each in some if isinstance(each, MeanRows)]
        names = {
            "probe": ", ".join(dict.fromkeys(name for each in some for name in each.probes)),
            "stage": some[0].stage if len(some) == 1 else counted(len({each.stage for each in some}), "stage"),
            "random": all(each.random for each in some),
        }
        kept = "are read for the probes" if len(means) == len(some) else "were read; probes of rows start again"
        saved = time.monotonic()
        try:
            for number, item in enumerate(items, 1):
                for walk in walks:
                    walk.take(item)
                stop.check(f"the stages are complete; {number} of {len(items)} items {kept}.")
                report("probe", **names, items=number, of=len(items))
                held = sum(pooled.unsaved_bytes for pooled in means)
                if held > MEMORY_BYTES or time.monotonic() - saved > SAVE_SECONDS:
                    for pooled in means:
                        pooled.save()
                    saved = time.monotonic()
        finally:
            for each in some:
                each.close()
    for each in missing:
        each.items = each.items[:0]


def _ladders(
    rows: Rows, dataset: Dataset, some: Sequence[Wanted]
) -> list[tuple[dict[int, Rung], dict[int, list[Wanted]]]]:
    found = []
    for random in (False, True):
        there = dict[int, list[Wanted]]()
        for each in some:
            if each.random == random:
                there.setdefault(each.position, []).append(each)
        if there:
            found += [(ladder, there) for ladder in rows.ladders(dataset, there, random)]
    return found


class _Walk:
    """Goes through the items with one ladder."""

    def __init__(self, ladder: dict[int, Rung], wanted: dict[int, list[Wanted]]) -> None:
        # The top draws the rows of those below.
        self.steps = [(ladder[position], wanted[position]) for position in sorted(ladder, reverse=True)]

    def take(self, item: int) -> None:
        """Read what is wanted of an item."""
        steps = []
        for rung, wanted in self.steps:
            some = [each for each in wanted if _holds(each.items, item)]
            for each in some:
                each.begin(item, int(rung.lengths[item]))
            rung.hear = _telling(some) if some else None
            steps += [(rung, some)] if some else []
        for rung, some in steps:
            rung.finish_item(item)
            for each in some:
                with _named(each):
                    each.end()


def _holds(items: Ints, item: int) -> bool:
    place = np.searchsorted(items, item)
    return bool(place < len(items) and items[place] == item)


def _telling(some: Sequence[Wanted]) -> Callable[[Tensor], None]:
    def hear(piece: Tensor) -> None:
        rows_nC = rows_of(means_of_patches(piece) if piece.ndim == 5 else piece)
        for each in some:
            with _named(each):
                each.hear(rows_nC)

    return hear


@contextmanager
def _named(each: Wanted) -> Iterator[None]:
    """Say of which probes something is wrong."""
    try:
        yield
    except NumberError as error:
        raise NumberError(f"probe {', '.join(each.probes)} on stage {each.stage}: {error}") from None
