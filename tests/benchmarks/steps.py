"""Training steps: against the arithmetic that people use today, in sync, in pieces, and what the objective takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from naive import NaiveNetwork
from paper import BATCH, CHANNELS, STAGES, WINDOW, Input, step_input, trainee
from report import Table
from timing import interleaved, ratio, total

from stagewise.modules import Geometry
from stagewise.modules.stage_module import Window, represent
from stagewise.training.memory_measured import measured
from stagewise.training.step import (
    Member,
    Trainee,
    gradient,
    place_windows,
    score_of,
    train_step,
    train_together,
    update,
)
from stagewise.training.windows import Batch

inputs = {name: step_input(name) for name in STAGES}
PRODUCT = 2 * 1024 * CHANNELS * CHANNELS * 12  # floating-point operations of the plain product


def step(trained: Trainee, data: Input) -> None:
    train_step(trained, data.rows(), data.crop, torch.Generator().manual_seed(0))


def against_naive(runs: int) -> Table:
    """Every stage's step in both precisions, and the naive one's."""
    ours = {(name, kind): trainee(name, kind) for name in STAGES for kind in (torch.float32, torch.bfloat16)}
    naive = NaiveNetwork()
    ways = {key: partial(step, trained, inputs[key[0]]) for key, trained in ours.items()}
    ways |= {("naive", layer): partial(naive.step, layer) for layer in (*range(6), None)}
    times = interleaved(ways, runs, warm=1, primed=True)
    rows = []
    for layer, name in enumerate(STAGES):
        fp32, bf16, old = times[name, torch.float32], times[name, torch.bfloat16], times["naive", layer]
        rows.append([name, old, fp32, ratio(old, fp32), bf16, ratio(old, bf16)])
    fp32_all, bf16_all = ([times[name, kind] for name in STAGES] for kind in (torch.float32, torch.bfloat16))
    old_all = [times["naive", layer] for layer in range(6)]
    sums = [total(old_all), total(fp32_all), ratio(old_all, fp32_all), total(bf16_all), ratio(old_all, bf16_all)]
    rows.append(["sum of the six", *sums])
    sync = times["naive", None]
    rows.append(["all in sync", sync, "–", ratio(sync, fp32_all), "–", ratio(sync, bf16_all)])
    return Table(
        ["step of", "naive", "fp32", "times faster", "bf16 autocast", "times faster"],
        rows,
        [
            f"Batch {BATCH}, {CHANNELS} channels, 12 prediction steps, 10 negatives, {WINDOW} rows scored, Adam. "
            "`naive` runs "
            "each layer over the whole crop of 20,480 samples and materialises every negative "
            "(`tests/benchmarks/naive.py`). "
            "The last line holds the naive network's step in sync against the sum of our six. The authors' published "
            "repository, run on this kind of machine (2026-11-22, 2 threads, fp32), took 9.96, 2.12, 1.17, 0.84, 0.75 "
            "and 0.55 s for the six layers (each with a forward pass of those below), and 13.6 s for all in sync."
        ],
    )


def objective(runs: int) -> Table:
    """The objective's share of a step, and its arithmetic against a plain product's rate."""
    rows = []
    a, b = torch.randn(1024, CHANNELS), torch.randn(CHANNELS, CHANNELS * 12)
    for name in STAGES:
        trained, data = trainee(name), inputs[name]
        x_BCT = data.rows()
        with torch.no_grad():
            z_BCT, c_BDT = (t.clone() for t in trained.stage.window(x_BCT, data.crop))
        z_BCT = z_BCT.requires_grad_()
        c_BDT = c_BDT.requires_grad_() if name == "context" else z_BCT

        def score(trained=trained, z_BCT=z_BCT, c_BDT=c_BDT) -> None:
            score_of(trained, z_BCT, c_BDT, torch.Generator().manual_seed(0)).loss.backward()
            for parameter in (*trained.parameters(), z_BCT, c_BDT):
                parameter.grad = None

        ways = {"step": partial(step, trained, data), "score": score, "product": partial(torch.mm, a, b)}
        times = interleaved(ways, runs, primed=True)
        operations = 3 * PRODUCT * z_BCT.shape[0] * WINDOW // 1024 * c_BDT.shape[1] // CHANNELS
        rate = ratio(times["product"], times["score"]).median * operations / PRODUCT
        rows.append([name, times["step"], times["score"], ratio(times["score"], times["step"]), f"{rate:.2f}"])
        product = times["product"].median
    return Table(
        ["stage", "step", "objective", "objective / step", "rate / plain product's"],
        rows,
        [f"Plain product (1024 × 512) · (512 × 6144), fp32: {PRODUCT / product / 1e9:.0f} GFLOP/s in the same run."],
    )


def pieces(runs: int) -> Table:
    """A step in four pieces with the same gradient, as a memory limit demands it, against the step as it is."""
    rows = []
    for name, batch in (("conv1", 64), ("conv2", 64), ("conv3", 64), ("context", 64), ("end-to-end", BATCH)):
        data, found, peaks = step_input(name, batch), [], []
        whole, cut = trainee(name), trainee(name, pieces=4)
        times = interleaved({key: partial(step, t, data) for key, t in (("whole", whole), ("cut", cut))}, runs, warm=1)
        for trained in (trainee(name), trainee(name, pieces=4)):
            gradient(trained, data.rows(), data.crop, torch.Generator().manual_seed(0))
            found.append(torch.cat([p.grad.flatten() for p in trained.parameters()]))
            update(trained)
            fixed = 3 * sum(p.numel() * p.element_size() for p in trained.parameters())
            with measured(torch.device("cpu"), fixed) as peak:
                step(trained, data)
            peaks += [peak.bytes, peak.bytes - fixed]
        gap = float((found[0] - found[1]).norm() / found[0].norm())
        cells = [
            f"{name}, batch {batch}",
            f"{peaks[0] / 1e6:.0f} → {peaks[2] / 1e6:.0f} MB",
            f"{peaks[3] / peaks[1]:.2f}",
        ]
        rows.append([*cells, times["whole"], times["cut"], ratio(times["cut"], times["whole"]), f"{gap:.0e}"])
    columns = [
        "step of",
        "peak",
        "of it not weights or their optimizer",
        "whole",
        "in 4 pieces",
        "ratio",
        "gradients differ by",
    ]
    return Table(columns, rows, ["Gradients: norm of the difference over the norm, float32."])


def in_sync(runs: int) -> Table:
    """All six stages on one crop, each one's backward right after its own forward, against the same steps alone."""
    members, geometry = [], Geometry()
    for name in STAGES:
        trained = trainee(name)
        geometry += trained.stage.geometry
        members.append(Member(name, Path(), trained, geometry, WINDOW))
    zeros, skip = np.zeros(BATCH, np.int64), -(geometry.first // geometry.hop)
    batch = Batch(zeros, zeros, (skip,) * BATCH, geometry.window_span(WINDOW), WINDOW)
    crop_BCT = torch.randn(BATCH, 1, batch.span)
    where, trainees = place_windows(members, batch, 0), [member.trainee for member in members]
    alone: list[tuple[Trainee, torch.Tensor, Window]] = []

    def generators() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(0) for _ in members]

    def together() -> None:
        train_together(trainees, crop_BCT, where, generators(), [None] * len(members), [True] * len(members))

    def forward() -> None:
        x_BCT = crop_BCT
        for trained in trainees[:-1]:
            x_BCT = represent([trained.stage], x_BCT)

    for trained in trainees:
        stage = trained.stage
        begin, end, skip = stage.geometry.piece(8, 8 + WINDOW, 10**6)
        alone.append((trained, torch.randn(BATCH, stage.in_channels, end - begin), Window((skip,) * BATCH, WINDOW)))

    def one_by_one() -> None:
        for trained, window_BCT, crop in alone:
            train_step(trained, window_BCT, crop, torch.Generator().manual_seed(0))

    times = interleaved({"together": together, "one by one": one_by_one, "forward": forward}, runs, primed=True)
    together_, single, below = times["together"], times["one by one"], times["forward"]
    return Table(
        [
            "in sync",
            "six steps alone",
            "ratio",
            "forward of the crop, without a graph",
            "its share of the step in sync",
        ],
        [[together_, single, ratio(together_, single), below, ratio(below, together_)]],
        [
            "In sync every stage runs over the whole crop to hand its rows on (they change with every step) and "
            "trains on 128 of "
            "them; alone it reads those it needs from a store. What is beyond 1 is that forward pass."
        ],
    )


def main(runs: int = 7) -> Iterator[Table]:
    yield objective(runs)
    yield in_sync(runs)
    yield pieces(max(5, runs - 2))
    yield against_naive(max(5, runs - 2))


if __name__ == "__main__":
    print(*main(int(sys.argv[1]) if sys.argv[1:] else 7), sep="\n\n")
