"""Peak memory of a training step: every stage of the paper's audio network against the same network end to end.

    python tests/benchmarks/memory.py

Each row runs in a process of its own: 512 channels, float32, Adam, InfoNCE with 12 steps and 10 negatives over a
window of 128 rows. `tensors` is the peak of torch's allocator while a step runs, `resident` how far the process's
resident set rose above what it was before the network was built, `predicted` what `stagewise plan` says.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import psutil
import torch
from paper import STAGES, WINDOW, trainee

from stagewise.modules.stage_module import Window
from stagewise.training.memory_forecast import predict_step
from stagewise.training.memory_measured import measured
from stagewise.training.step import train_step

NAMES = ("end-to-end", *STAGES)
CASES = ((8, 20_480, 0.36), (32, 20_480, 0.25), (8, 163_840, 0.08))


def measure(name: str, batch: int, crop: int) -> dict[str, float]:
    process = psutil.Process()
    torch.nn.functional.conv1d(torch.randn(8, 8, 64), torch.randn(8, 8, 3)).sum()  # libraries set themselves up
    before = process.memory_info().rss
    trained = trainee(name)
    stage = trained.stage
    geometry = stage.geometry
    if name == "end-to-end":  # the whole crop goes through; the window is cut out of its rows
        span, skip = crop, (geometry.rows(crop) - WINDOW) // 2
    else:
        span, skip = geometry.window_span(WINDOW), -(geometry.first // geometry.hop)
    cut = Window((skip,) * batch, WINDOW)

    def step() -> None:
        x_BCT = torch.randn(batch, stage.in_channels, span)
        train_step(trained, x_BCT, cut, torch.Generator().manual_seed(0))

    step()
    step()
    with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123
        file.write("5")  # the high-water mark starts again
    step()
    with open("/proc/self/status") as file:  # noqa: PTH123
        high = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    existing = 3 * sum(p.numel() * p.element_size() for p in trained.parameters())
    with measured(torch.device("cpu"), existing) as peak:
        step()
    predicted = predict_step(trained, [], (batch, stage.in_channels, span), cut).peak
    return {"tensors": peak.bytes, "resident": high - before, "predicted": predicted}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=3, metavar=("NAME", "BATCH", "CROP"))
    arguments = parser.parse_args()
    if arguments.one:
        name, batch, crop = arguments.one
        print(json.dumps(measure(name, int(batch), int(crop))))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; MB, share of end to end\n")
    for batch, crop, limit in CASES:
        print(f"### batch {batch}, crop {crop:,} samples: every stage at most {limit} of end to end\n")
        print("| | tensors | share | resident | share | predicted | predicted / tensors |")
        print("|---|---|---|---|---|---|---|")
        whole: dict[str, float] = {}
        for name in NAMES:
            command = [sys.executable, __file__, "--one", name, str(batch), str(crop)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            whole = whole or found
            share, resident = (found[key] / whole[key] for key in ("tensors", "resident"))
            print(
                f"| {name} | {found['tensors'] / 1e6:.1f} | {share:.3f} | {found['resident'] / 1e6:.1f} | "
                f"{resident:.3f} | {found['predicted'] / 1e6:.1f} | {found['predicted'] / found['tensors']:.2f} |",
                flush=True,
            )
        print()


if __name__ == "__main__":
    main()
