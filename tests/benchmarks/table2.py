"""Table 2 of the paper: peak memory of a training step of its vision network, batch 32, by kind of training.

`python tests/benchmarks/table2.py [--batch 32] [--device cpu|cuda]`; no data set is needed, the crops are noise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from report import Table

from stagewise.modules import Geometry
from stagewise.objectives import Supervised
from stagewise.pipeline import load_pipeline
from stagewise.planning.build import BuiltStage, Input, build_stages, make_trainee
from stagewise.planning.stage_plan import forecast
from stagewise.training.memory_measured import measured
from stagewise.training.step import Member, place_windows, train_together
from stagewise.training.windows import Batch

PIPELINES = Path(__file__).parents[2] / "pipelines"
PUBLISHED = {"supervised": 6.3, "CPC": 7.7, "GIM, modules in sync": 7.0, "GIM, module 1": 2.5}  # GB, the paper's GPU
STL10 = Input((1, 16, 16), (7, 7), lambda _: 10)


def step_bytes(stages: list[BuiltStage], device: torch.device) -> int:
    """Measure the second step, the first with the optimizer's state."""
    for stage in stages:
        stage.module.to(device)
        stage.objective.to(device)
    trainees = [make_trainee(stage) for stage in stages]
    size, top = stages[-1].config.train.batch_size, stages[-1]
    zeros = np.zeros(size, np.int64)
    batch = Batch(zeros, zeros, (0,) * size, top.rows, top.rows, top.grid)
    members = [
        Member(stage.config.name, Path(), trainee, Geometry(), stage.rows)
        for stage, trainee in zip(stages, trainees, strict=True)
    ]
    classes = [
        torch.zeros(size, dtype=torch.int64, device=device) if isinstance(s.objective, Supervised) else None
        for s in stages
    ]
    channels, *patch = stages[0].module.in_shape

    def step() -> None:
        x_BCTHW = torch.randn(size, batch.span, *patch, channels, device=device).movedim(-1, 1)
        generators = [torch.Generator().manual_seed(0) for _ in stages]
        train_together(trainees, x_BCTHW, place_windows(members, batch, 0), generators, classes, [True] * len(stages))

    step()
    states = (
        v for t in trainees for s in t.optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)
    )
    weights = (p for t in trainees for p in t.parameters())
    existing = sum(t.numel() * t.element_size() for group in (states, weights) for t in group)
    with measured(device, existing) as peak:
        step()
    return peak.bytes


def main(batch: int, device: torch.device) -> Table:
    found: dict[str, tuple[int, int]] = {}
    for name, file in (("supervised", "stl10-supervised"), ("CPC", "stl10-cpc"), ("GIM", "stl10")):
        pipeline = load_pipeline(PIPELINES / f"{file}.toml", {"defaults.train.batch_size": batch})
        whole = build_stages(pipeline, STL10, device)
        parts = {name if len(whole) == 1 else "GIM, modules in sync": whole}
        if len(whole) > 1:
            parts |= {f"GIM, module {number}": [stage] for number, stage in enumerate(whole, 1)}
        for part, stages in parts.items():
            predicted = forecast(stages, []).peak
            found[part] = predicted, step_bytes(stages, device)
            print(f"{part}: {found[part][1] / 1e9:.2f} GB", flush=True)
    _, cpc = found["CPC"]
    rows = [
        [name, f"{peak / 1e9:.2f} GB", f"{peak / cpc:.2f}", f"{predicted / peak:.3f}", _published(name)]
        for name, (predicted, peak) in found.items()
    ]
    note = (
        f"Batch {batch}, 49 patches a crop, float32, Adam, {device.type}: bytes of tensors, weights and state included."
    )
    return Table(["step of", "peak", "of CPC", "predicted / measured", "published, GB on a GPU"], rows, [note])


def _published(name: str) -> str:
    return f"{PUBLISHED[name]} ({PUBLISHED[name] / PUBLISHED['CPC']:.2f})" if name in PUBLISHED else "–"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    print(main(arguments.batch, torch.device(arguments.device)))
