"""Where a probe's rows come from: the nearest store, or the data through all stages, trained or at their random start.

Rows of the random start are rounded as the stores of the trained stages round theirs, so that both are read alike.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property

from stagewise.datasets.base import Dataset
from stagewise.datasets.images import Images
from stagewise.encoding.encode import Chain, calibrate
from stagewise.encoding.ladder import Rung, as_stored
from stagewise.inputs import load_weights
from stagewise.modules.stage_module import StageModule
from stagewise.planning.build import Input, build_stages
from stagewise.planning.plan import Plan
from stagewise.stopping import Stop
from stagewise.stores import Scaling, StoreReader
from stagewise.windows.centre import CentreSource
from stagewise.windows.source import RawSource, Source, StoreSource

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
