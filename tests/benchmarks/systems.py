"""The paper's systems beside each other on small data: `python tests/benchmarks/systems.py images|speech DATA RUNS`.

Runs the shipped pipelines with overrides (the same encoder, the same number of examples for each), one process per job,
and prints what `stagewise compare` says. Typed again, it goes on.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PIPELINES = Path(__file__).parents[2] / "pipelines"
STAGED = {
    "stage.module1.encoder.planes": 8, "stage.module1.encoder.blocks": 1, "stage.module1.encoder.stem": 8,
    "stage.module2.encoder.in_channels": 32, "stage.module2.encoder.planes": 16, "stage.module2.encoder.blocks": 1,
    "stage.module3.encoder.in_channels": 64, "stage.module3.encoder.planes": 32, "stage.module3.encoder.blocks": 1,
}  # fmt: skip
WHOLE = {
    "stage.module3.encoder.planes": [8, 16, 32], "stage.module3.encoder.blocks": 1, "stage.module3.encoder.stem": 8
}  # fmt: skip
CPC = {"stage.module3.context.in_channels": 128}
NCE = {"defaults.objective.steps": 3}
GRID = {"data.size": 64, "data.crop": 48, "data.grayscale": True}
IMAGES = {  # system: pipeline, overrides
    "gim": ("stl10", STAGED | NCE),
    "gim-iterative": ("stl10", STAGED | NCE | {"pipeline.schedule": "iterative"}),
    "cpc": ("stl10-cpc", WHOLE | CPC | NCE),
    "supervised": ("stl10-supervised", WHOLE),
    "greedy-supervised": ("stl10-greedy-supervised", STAGED),
    "predsim": ("stl10-predsim", STAGED),
    "deep-infomax": ("stl10-deep-infomax", WHOLE | {"defaults.objective.units": 256}),
    "random": ("stl10", STAGED | NCE | {"defaults.train.epochs": 0}),
}
CONVS = {f"stage.conv{n}.encoder.in_channels": 64 for n in (2, 3, 4, 5)} | {
    f"stage.conv{n}.encoder.out_channels": 64 for n in (1, 2, 3, 4, 5)
}
GRU = {"stage.context.context.input_size": 64, "stage.context.context.hidden_size": 64}
ONE = {"stage.context.encoder.out_channels": 64} | GRU
PHONES = {"defaults.objective.labels": "phones", "defaults.objective.pool": "none"}
SPEECH = {
    "gim": ("librispeech", CONVS | GRU),
    "gim-simultaneous": ("librispeech", CONVS | GRU | {"pipeline.schedule": "simultaneous"}),
    "cpc": ("librispeech-cpc", ONE),
    "supervised": ("librispeech-supervised", ONE),
    "supervised-phones": ("librispeech-supervised", ONE | PHONES),
    "greedy-supervised": ("librispeech-greedy-supervised", CONVS | GRU),
    "greedy-supervised-phones": ("librispeech-greedy-supervised", CONVS | GRU | PHONES),
    "gim-no-gar": ("librispeech-no-context", CONVS),
    "gim-no-bptt": ("librispeech", CONVS | GRU | {"stage.context.context.bptt": False}),
    "gim-joint-context": (
        "librispeech-joint-context",
        CONVS | {"stage.conv5.context.input_size": 64, "stage.conv5.context.hidden_size": 64},
    ),
    "mfcc": ("librispeech-mfcc", {}),
    "random": ("librispeech", CONVS | GRU | {"defaults.train.epochs": 0}),
}


def settings(table: str, data: Path, epochs: int) -> dict[str, object]:
    """Return what all systems of a table share."""
    train = {"defaults.train.epochs": epochs, "defaults.train.patience": epochs, "pipeline.threads": 1}
    train |= {"defaults.train.optimizer.lr": 1e-3, "defaults.train.batch_size": 32 if table == "images" else 8}
    if table == "images":
        return train | GRID | {
            "data.target": "image-folder", "data.root": data / "train", "data.test": data / "test",
            "probe.object.epochs": 300, "probe.object.optimizer.lr": 1e-2,  # few images: to convergence
        }  # fmt: skip
    return train | {
        "data.root": data, "data.splits.train": data / "train.txt", "data.splits.test": data / "test.txt",
        "data.phones": data / "phone_alignment.txt", "defaults.train.windows_per_item": 4,
        "probe.phones.optimizer.lr": 1e-3,
    }  # fmt: skip


def run(file: Path, folder: Path, overrides: dict[str, object]) -> None:
    """Run one pipeline; what it says goes into a log beside its folder."""
    sets = [text for key, value in overrides.items() for text in ("--set", f"{key}={_toml(value)}")]
    command = [sys.executable, "-m", "stagewise", "run", str(file), "--run", str(folder), *sets]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("wb") as log:
        done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT)
    print(folder.name, "done" if done.returncode == 0 else f"failed with {done.returncode}", flush=True)


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=["images", "speech"])
    parser.add_argument("data", type=Path, help="clothing or librispeech-sample")
    parser.add_argument("runs", type=Path, help="folder of the runs")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--systems", nargs="*", default=[], help="some of the table's")
    arguments = parser.parse_args()
    systems = IMAGES if arguments.table == "images" else SPEECH
    folders = []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for seed in range(arguments.seeds):
            for system in arguments.systems or systems:
                pipeline, own = systems[system]
                shared = settings(arguments.table, arguments.data.resolve(), arguments.epochs)
                # A setting of the system's own wins, such as no epochs at all.
                overrides = shared | own
                overrides |= {"pipeline.system": system, "pipeline.seed": seed}
                folders.append(arguments.runs / f"{system}-{seed}")
                pool.submit(run, PIPELINES / f"{pipeline}.toml", folders[-1], overrides)
    subprocess.run([sys.executable, "-m", "stagewise", "compare", "--markdown", *map(str, folders)], check=True)


if __name__ == "__main__":
    main()
