"""Whether a stage's store is written or recomputed, and how, decided from bytes, disk and compute."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from stagewise.errors import ConfigError
from stagewise.modules.stage_module import StageModule
from stagewise.planning.build import BuiltStage
from stagewise.text import bytes_text
from stagewise.training.memory_measured import in_threads

# What zstd leaves of an int8 store: 0.18 to 0.76 for trained convolutions on real speech, all of it for a GRU.
ZSTD_SHARE = 0.76
WIDTH = {"float32": 4, "float16": 2, "int8": 1}  # bytes of a number
CHEAP = 0.10  # recompute where that costs less than this share of a training step of the stage above


@dataclass(frozen=True)
class Policy:
    """What becomes of a stage's representation.

    Attributes:
        write: to a store; else it is recomputed from the nearest store below, or from the data.
        compress: of the store.
        why: in words.
    """

    write: bool
    compress: Literal["none", "zstd"]
    why: str


def decide(
    limit: int | None, built: Sequence[BuiltStage], flops: Sequence[float], rows: Sequence[int], free: int
) -> list[Policy]:
    """Decide for every stage, from the input up.

    Args:
        limit: bytes that the pipeline allows its stores; None of no limit.
        built: the stages, with their `store` tables.
        flops: `forward_flops` of each.
        rows: of the whole data set at each stage.
        free: bytes that stores may still take on this disk.

    Raises:
        ConfigError: a recurrent stage would have to be recomputed from the middle of an item.
    """
    left = free if limit is None else min(free, limit)
    shares = _shares(built, flops)
    widths = [math.prod(stage.row_shape) * WIDTH[stage.config.store.dtype] for stage in built]
    store_bytes = [count * width for count, width in zip(rows, widths, strict=True)]
    policies: dict[int, Policy] = {}

    def write(index: int, why: str) -> None:
        nonlocal left
        room = _fits(store_bytes[index], left, built[index])
        if room is None:
            room = "none" if built[index].config.store.compress == "none" else "zstd"
            size = bytes_text(store_bytes[index])
            why += f", though {size} do not fit into the {bytes_text(max(0, left))} that are left"
        left -= int(store_bytes[index] * (ZSTD_SHARE if room == "zstd" else 1))
        policies[index] = Policy(True, room, why + (" with zstd" if room == "zstd" else ""))

    # What the file asks for comes first; then the top, whose stores are the smallest and save the most.
    for index, stage in enumerate(built):
        if stage.config.store.write is True:
            write(index, "as the pipeline file says")
        elif stage.config.store.write is False:
            policies[index] = Policy(False, "none", "as the pipeline file says")
    for index in sorted(set(range(len(built))) - set(policies), reverse=True):
        size, recurrent = store_bytes[index], built[index].module.recurrent
        if shares[index] < CHEAP and not recurrent:
            above = built[index + 1].config.name
            policies[index] = Policy(False, "none", f"recomputing costs {shares[index]:.1%} of a step of {above}")
        elif _fits(size, left, built[index]):
            write(index, "it fits on the disk")
        else:
            why = f"{bytes_text(size)} do not fit into the {bytes_text(max(0, left))} of disk that are left"
            policies[index] = Policy(False, "none", why)
    for index, stage in enumerate(built[:-1]):
        if stage.module.recurrent and not policies[index].write:
            raise ConfigError(
                f"{stage.where('')}: rows of a recurrent stage depend on everything "
                f"before them, so the stages above need its store, but it is not written ({policies[index].why}). "
                "Set its store.write = true, raise pipeline.disk_limit, or move it to the top."
            )
    return [policies[index] for index in range(len(built))]


def forward_flops(stage: BuiltStage) -> float:
    """Count the multiply-adds of one training window of a stage, forward; it is computed, once."""
    if stage.flops is None:
        module: StageModule = stage.module
        span = stage.rows if stage.grid else module.geometry.window_span(stage.rows)
        x_1CT = torch.zeros(1, module.in_shape[0], span, *module.in_shape[1:])
        modes = [(part, part.training) for part in module.modules()]
        try:
            module.eval()  # a batch norm would count zeros
            with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.random.fork_rng([]), in_threads(1):
                module(x_1CT)
        finally:
            for part, training in modes:
                part.training = training
        stage.flops = float(counter.get_total_flops()) / 2
    return stage.flops


def _shares(built: Sequence[BuiltStage], flops: Sequence[float]) -> list[float]:
    """Compare recomputing a stage's rows from the data, for a step of the stage above, with that step itself.

    A step counts as three times its forward pass. The top has no stage above: its share is infinite.
    """
    costs = [recomputing(built, flops, index, 0) for index in range(1, len(built))]
    return [*(cost / max(1.0, 3 * above) for cost, above in zip(costs, flops[1:], strict=True)), math.inf]


def recomputing(built: Sequence[BuiltStage], flops: Sequence[float], index: int, lowest: int) -> float:
    """Count the multiply-adds of computing the rows below a stage's training window again, from stage `lowest` up.

    Args:
        built: the stages.
        flops: of one training window of each, forward.
        index: the stage.
        lowest: the first stage that is computed again; nothing is where this is the stage itself.
    """
    cost, rows = 0.0, built[index].module.geometry.window_span(built[index].rows)
    for below in range(index - 1, lowest - 1, -1):
        cost += flops[below] * rows / built[below].rows
        rows = built[below].module.geometry.window_span(rows)
    return cost


def nearest_store(policies: Sequence[Policy], index: int) -> int:
    """Return the first of the stages that are computed to get a stage's input; its own place where it is stored."""
    while index and not policies[index - 1].write:
        index -= 1
    return index


def _fits(size: int, left: int, stage: BuiltStage) -> Literal["none", "zstd"] | None:
    """Choose the fastest compression under which a store fits, None if there is none."""
    smaller = size if stage.module.recurrent else int(size * ZSTD_SHARE)
    for way, needed in (("none", size), ("zstd", smaller)):
        if needed <= left and stage.config.store.compress in (way, "auto"):
            return "none" if way == "none" else "zstd"
    return None


def total_rows(lengths: np.ndarray[Any, np.dtype[np.int64]], stage: BuiltStage) -> int:
    """Count the rows of a whole data set at a stage."""
    values, counts = np.unique(lengths, return_counts=True)
    return sum(stage.geometry.rows(v) * n for v, n in zip(values.tolist(), counts.tolist(), strict=True))
