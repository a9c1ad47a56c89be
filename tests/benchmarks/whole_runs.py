"""Whole runs: a second pass over a finished run, growth with items, their length and depth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from report import Table
from timing import Ratio, Times, show

ROOT = Path(__file__).parents[2]
CHILD = """
import json, sys, threading, time
samples = []
def sample():
    while True:
        with open("/proc/self/status") as file:
            samples.append(next(int(line.split()[1]) for line in file if line.startswith("RssAnon")) * 1024)
        time.sleep(0.02)
threading.Thread(target=sample, daemon=True).start()
begun = time.perf_counter()
import torch, zarr, stagewise, stagewise.cli.make, stagewise.runner
imported = time.perf_counter()
facts = stagewise.run(sys.argv[1], run=sys.argv[2], set=json.loads(sys.argv[3]))
done = time.perf_counter()
peak = max(samples)
print(json.dumps({"imports": imported - begun, "run": done - imported, "resident": peak, "facts": facts}))
"""
NOISE = """
format = 1
[pipeline]
name = "growth"
[data]
target = "noise:Noise"
items = {items}
seconds = {seconds}
[defaults.train]
epochs = 2
patience = 5
[defaults.store]
write = true
"""
STAGE = """
[[stage]]
name = "conv{number}"
encoder = {{ target = "conv1d", in_channels = {inputs}, out_channels = 128, kernel_size = {k}, stride = {s} }}
"""


def run(file: Path, folder: Path, settings: dict[str, object] | None = None) -> dict:
    """Run a pipeline in a process of its own."""
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(file), str(folder), json.dumps(settings or {})],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    return json.loads(done.stdout.splitlines()[-1])


def quickstart(folder: Path, runs: int) -> Table:
    """The quickstart from nothing, and over the finished run."""
    first = [run(ROOT / "pipelines/quickstart.toml", folder / f"quickstart-{n}") for n in range(2)]
    again = [run(ROOT / "pipelines/quickstart.toml", folder / "quickstart-0") for _ in range(runs)]
    seconds = Times(tuple(r["run"] for r in again))
    rows = [
        ["first pass", ", ".join(show(r["run"]) for r in first), show(median(r["imports"] for r in first))],
        ["second pass, nothing changed", seconds, show(median(r["imports"] for r in again))],
    ]
    return Table(["quickstart.toml", "beyond imports", "imports"], rows)


def growth(folder: Path, runs: int) -> Table:
    """Ten times the items, ten times their length, twice the depth."""
    sizes = {"base": (160, 40, 2), "items × 10": (1600, 40, 2), "length × 10": (160, 400, 2), "depth × 2": (160, 40, 4)}
    found: dict[str, list[dict]] = {name: [] for name in sizes}
    for turn in range(runs):
        for name, (items, seconds, depth) in sizes.items():
            file = folder / "growth.toml"
            shape = [(1, 10, 5), (128, 8, 4), (128, 4, 1), (128, 4, 1)]
            stages = (STAGE.format(number=n, inputs=c, k=k, s=s) for n, (c, k, s) in enumerate(shape[:depth], 1))
            file.write_text(NOISE.format(items=items, seconds=seconds) + "".join(stages))
            target = folder / f"growth-{name}-{turn}"
            found[name].append(run(file, target))
            subprocess.run(["rm", "-r", str(target)], check=True)
    rows = []
    for name, results in found.items():
        train, encode, resident = (
            Ratio(tuple(of(r) / of(b) for r, b in zip(results, found["base"], strict=True)))
            for of in (lambda r: total(r, "train"), lambda r: total(r, "store"), lambda r: r["resident"])
        )
        peak = max(s["memory"]["measured_peak_bytes"] for s in results[0]["facts"]["stages"])
        rows.append([name, train, encode, f"{peak / 1e6:.1f} MB", resident])
    columns = [
        "",
        "training / base",
        "encoding / base",
        "largest step (tensors)",
        "resident peak / base, without maps of files",
    ]
    return Table(columns, rows, ["Base: 160 items of 40 s of noise, two stages of 128 channels, two epochs."])


def total(result: dict, kind: str) -> float:
    return sum(stage[kind]["seconds"] for stage in result["facts"]["stages"])


def main(runs: int = 5) -> list[Table]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [quickstart(folder, runs), growth(folder, max(2, runs // 2))]


if __name__ == "__main__":
    print(*main(int(sys.argv[1]) if sys.argv[1:] else 5), sep="\n\n")
