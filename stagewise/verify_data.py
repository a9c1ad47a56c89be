"""Is the data still what a run was made of? The rows of its lowest store are computed again and compared.

A data set's fingerprint knows names and sizes of files, not their bytes: a file that was replaced by another of the
same size shows here alone.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stagewise.config import Pipeline
from stagewise.datasets.base import Dataset
from stagewise.encoding.encode import Chain
from stagewise.errors import ConfigError, DataError
from stagewise.inputs import input_of, load_weights
from stagewise.runner import plan_pipeline
from stagewise.runs.folder import RunFolder
from stagewise.stores import StoreReader

# What two machines, or float16, may differ by: of the largest value of a piece of an item, or steps of int8.
SHARE, STEPS = 0.02, 2


def verify_data(pipeline: Pipeline, run: RunFolder, report: Callable[..., None]) -> list[str]:
    """Return a sentence for every item whose stored rows are not those that its file gives now.

    Args:
        pipeline: that the run was made with.
        run: the run directory.
        report: told how many items are compared.

    Raises:
        ConfigError: no stage has a store to compare with.
        DataError: the data is not there, or an item cannot be read.
        IntegrityError: the store or weights are damaged.
    """
    plan = plan_pipeline(pipeline, run, report, need_data=True)
    assert isinstance(plan.size, Dataset)
    changed = [stage for stage in plan.stages if stage.record is None]
    if changed:
        raise DataError(
            f"stage {changed[0].name} is to be made ({changed[0].reason}): the data or the run has changed, or the "
            "run is not finished. `stagewise plan FILE` says more."
        )
    written = [p for p, s in enumerate(plan.stages) if s.record and s.record["store"]["state"] == "written"]
    if not written:
        raise ConfigError(f"{run.path} has no store that the data could be compared with: all stages are recomputed.")
    stage = plan.stages[written[0]]
    assert stage.folder is not None
    source, below = input_of(plan, written[0])
    module = load_weights(stage.built.module, stage.folder).to(plan.device)
    means = len(stage.built.row_shape) < len(stage.built.module.out_shape)
    chain, problems = Chain(source, [*below, module], plan.device, means), []
    with StoreReader(stage.folder) as store:
        for item, key in enumerate(plan.size.keys):
            if not _same(chain, store, item):
                problems.append(
                    f"{key} is not the file that stage {stage.name} was made of: its rows differ from those in "
                    f"{stage.folder}. Put the old file back, or type `stagewise run FILE --fresh`."
                )
            report("compare", stage=stage.name, items=item + 1, of=store.items)
    return problems


def _same(chain: Chain, store: StoreReader, item: int) -> bool:
    row = 0
    for rows in chain.rows(item):
        if row + len(rows) > store.lengths[item]:
            return False
        stored = np.empty(rows.shape, store.dtype)
        store.read_raw(item, row, stored)
        row += len(rows)
        if store.scaling is not None:
            near = np.abs(store.scaling.quantise(rows)[0].astype(np.int16) - stored) <= STEPS
        else:
            near = np.abs(rows - stored) <= SHARE * np.abs(rows).max(initial=0)
        if not near.all():
            return False
    return row == int(store.lengths[item])
