"""What the pipeline is worth that `init` writes for speech: `recipes.py FOLDER LABELLED OUT [--time T] [--seeds N …]`.

FOLDER holds recordings for `stagewise init`; LABELLED is speech in LibriSpeech's layout with train.txt, test.txt and
phone_alignment.txt, which the stages never see and the probe of phones alone reads. Times are of one thread.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from report import Table

import stagewise
from stagewise.datasets.files import find
from stagewise.pipeline.wording import parse_duration
from stagewise.starting.recipe import this_machine
from stagewise.starting.survey import look
from stagewise.starting.write import start

PROBE = """
[[probe]]
name = "spoken"
stages = "all"
labels = "phones"
random = true
batch_size = 1024
epochs = 30
optimizer = {{ target = "torch.optim:Adam", lr = 1e-3 }}
data = {{ target = "librispeech", root = "{0}", phones = "{0}/phone_alignment.txt", splits = {{ train = "{0}/train.txt", test = "{0}/test.txt" }} }}
"""  # noqa: E501


def written(folder: Path, labelled: Path, out: Path, budget: float) -> Path:
    """Write the file that `init` writes, with a probe more."""
    text, _ = start(look(find(folder), "audio"), this_machine(), "recipe", out / "recipe.toml", budget=budget)
    out.mkdir(parents=True, exist_ok=True)
    (out / "recipe.toml").write_text(text.rstrip() + "\n" + PROBE.format(labelled.resolve()))
    return out / "recipe.toml"


def measured(file: Path, run: Path, seed: int) -> tuple[list[list[object]], float]:
    """Run it, and return what the probe says of every stage, and the minutes that training and encoding took."""
    begun = time.monotonic()
    stagewise.run(file, run=run, set={"pipeline.seed": seed, "pipeline.threads": 1}, until="context")
    minutes = (time.monotonic() - begun) / 60
    facts = stagewise.run(file, run=run, set={"pipeline.seed": seed, "pipeline.threads": 1})
    rows = []
    for probe in facts["probes"]:
        random = probe["random"]["value"] if probe["random"] else None
        rows.append([seed, probe["stage"], f"{probe['value']:.3f}", "" if random is None else f"{random:.3f}"])
    return rows, minutes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("folder", "labelled", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--time", default="10 min")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file = written(arguments.folder, arguments.labelled, arguments.out, parse_duration(arguments.time))
    rows, notes = [], []
    for seed in arguments.seeds:
        found, minutes = measured(file, arguments.out / f"run-{seed}", seed)
        rows += found
        notes.append(f"seed {seed}: {minutes:.1f} minutes of training and encoding.")
    print(Table(["seed", "stage", "phones", "before training"], rows, notes))
