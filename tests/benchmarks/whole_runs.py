"""Whole runs: a second pass over a finished run, growth with items, their length and depth."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
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
    """Five and ten times the items, five and ten times their length, twice the depth."""
    sizes = {
        "base": (40, 20, 2),
        "items × 5": (200, 20, 2),
        "items × 10": (400, 20, 2),
        "length × 5": (40, 100, 2),
        "length × 10": (40, 200, 2),
        "depth × 2": (40, 20, 4),
    }
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
        cells = []
        for kind in ("train", "store"):
            times = {size: [total(r, kind) for r in rs] for size, rs in found.items()}
            cells.append(Times(tuple(times[name])))
            half = f"{name.split(' × ')[0]} × 5"
            if name == "items × 10" or (name == "length × 10" and kind == "store"):
                # Against fixed costs: what the second half of the growth costs a unit, over what the first did.
                parts = zip(times["base"], times[half], times[name], strict=True)
                cells.append(Ratio(tuple((ten - five) / 5 / ((five - one) / 4) for one, five, ten in parts)))
            else:
                cells.append("")
        resident = Ratio(tuple(r["resident"] / b["resident"] for r, b in zip(results, found["base"], strict=True)))
        peak = max(s["memory"]["measured_peak_bytes"] for s in results[0]["facts"]["stages"])
        rows.append([name, *cells, f"{peak / 1e6:.1f} MB", resident])
    columns = [
        "", "training", "× 5 to × 10, per unit, over × 1 to × 5", "encoding", "× 5 to × 10, per unit, over × 1 to × 5",
        "largest step (tensors)", "resident peak / base, without maps of files",
    ]  # fmt: skip
    return Table(
        columns,
        rows,
        ["Base: 40 items of 20 s of noise, two stages of 128 channels, two epochs of one window an item."],
    )


def total(result: dict, kind: str) -> float:
    return sum(stage[kind]["seconds"] for stage in result["facts"]["stages"])


def main(runs: int = 5) -> Iterator[Table]:
    with tempfile.TemporaryDirectory() as name:
        yield quickstart(Path(name), runs)
        yield growth(Path(name), max(2, runs // 2))


if __name__ == "__main__":
    print(*main(int(sys.argv[1]) if sys.argv[1:] else 5), sep="\n\n")
