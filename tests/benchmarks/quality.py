"""What a store's number format costs: bytes on real, trained activations, and the accuracy of probes on them."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

from report import Table
from timing import show
from whole_runs import ROOT, run

from stagewise.encoding.encode import Chain, encode
from stagewise.pipeline import load_pipeline
from stagewise.planning.build import make_optimizer
from stagewise.planning.plan import Plan
from stagewise.probing.features import RowFeatures
from stagewise.probing.fit import ProbeJob, run_probe
from stagewise.runner import plan_pipeline
from stagewise.runs.folder import RunFolder
from stagewise.signals import Stop
from stagewise.stages import frozen, input_of
from stagewise.stores import Manifest, StoreReader
from stagewise.training.feed import StoreSource
from stagewise.training.windows import Alignment

SEEDS = 3


def silent(*_: object, **__: object) -> None:
    """Report nothing."""


def speech() -> dict[str, object]:
    """Point a pipeline at ten real speakers with phone labels."""
    data = Path(os.environ["STAGEWISE_TEST_DATA"]) / "librispeech-sample"
    settings: dict[str, object] = {"data.root": str(data), "data.phones": str(data / "phone_alignment.txt")}
    return settings | {f"data.splits.{name}": str(data / f"{name}.txt") for name in ("train", "test")}


def trained(file: Path, folder: Path, settings: dict[str, object]) -> tuple[Plan, dict]:
    """Run a pipeline, and plan it again, to get at its parts."""
    facts = run(file, folder, settings)["facts"]
    return plan_pipeline(load_pipeline(file, settings), RunFolder(folder)), facts


def rows_of(plan: Plan, position: int) -> Chain:
    """Return the chain that gives a stage's rows."""
    source, below = input_of(plan, position)
    return Chain(source, [*below, frozen(plan.stages[position], plan.device)], plan.device)


def store(chain: Chain, folder: Path, dtype: str, compress: str) -> Manifest:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return encode(chain, folder, dtype, compress, "f" * 64, Stop(), silent).manifest


def full_width(folder: Path) -> list[Table]:
    """Train the paper's network and look at its stores, and at how long it waited for data."""
    file = ROOT / "pipelines/librispeech.toml"
    plan, facts = trained(file, folder / "full", speech() | {"defaults.train.epochs": 20})
    rows, waits = [], []
    for position, stage in enumerate(facts["stages"]):
        chain = rows_of(plan, position)
        plain, packed = (store(chain, folder / "store", "int8", way) for way in ("none", "zstd"))
        shares = [f"{2 * m.bytes / m.float32_bytes:.3f}" for m in (plain, packed)]
        cut = f"{plain.saturated / (plain.float32_bytes / 4):.1e}"
        rows.append([stage["name"], *shares, cut])
        train = stage["train"]
        share = train["data_wait_seconds"] / train["seconds"]
        waits.append([stage["name"], show(train["seconds"] / train["steps"]), f"{share:.4f}"])
    return [
        Table(
            ["store of", "int8 / float16", "int8 + zstd / float16", "values outside the calibrated range"],
            rows,
            ["librispeech.toml at full width (512 channels), 20 epochs on 92 utterances of real speech."],
        ),
        Table(
            ["stage", "seconds per step, validation included", "share of them that waited for data"],
            waits,
            ["The same run. conv1 and conv2 read FLAC files, all others the store below."],
        ),
    ]


def probes(folder: Path) -> Table:
    """Fit the same probe on the same frozen stage's rows, kept as float32 and as int8."""
    rows = []
    file = ROOT / "pipelines/speech-small.toml"
    found: dict[str, list[tuple[float, float]]] = {"conv5": [], "context": []}
    for seed in range(SEEDS):
        settings = speech() | {"pipeline.seed": seed, "defaults.train.epochs": 10, "probe.phones.stages": ["context"]}
        settings |= {"probe.phones.data": {"target": "librispeech"} | named(speech()), "probe.speaker.epochs": 0}
        settings |= {"probe.speaker.data": settings["probe.phones.data"], "probe.speaker.stages": ["context"]}
        plan, _ = trained(file, folder / f"small-{seed}", settings)
        for position in (4, 5):
            chain, values = rows_of(plan, position), []
            alignment = Alignment(plan.stages[position].built.geometry)
            for dtype in ("float32", "int8"):
                store(chain, folder / "store", dtype, "none")
                probe = next(p for p in plan.pipeline.probe if p.name == "phones")
                job = ProbeJob(
                    probe=probe,
                    stage=plan.stages[position].name,
                    dataset=plan.data,
                    features=RowFeatures(
                        Chain(StoreSource(StoreReader(folder / "store")), [], plan.device),
                        plan.data,
                        probe.labels,
                        alignment,
                        None,
                    ),
                    device=plan.device,
                    optimizer=lambda module, p=probe: make_optimizer(p.optimizer, "probe.phones")(module.parameters()),
                    seed=seed,
                    fingerprint="f" * 64,
                )
                values.append(run_probe(job, folder / f"probe-{seed}-{position}-{dtype}", Stop(), silent)["value"])
            found[plan.stages[position].name].append((values[0], values[1]))
    for name, pairs in found.items():
        gaps = [100 * (b - a) for a, b in pairs]
        cells = ["; ".join(f"{100 * pair[i]:.2f}" for pair in pairs) for i in (0, 1)]
        rows.append([name, *cells, "; ".join(f"{gap:+.2f}" for gap in gaps), f"{mean(gaps):+.2f}"])
    return Table(
        ["phones, linear probe on", "float32 store, %", "int8 store, %", "difference, points", "mean"],
        rows,
        [f"speech-small.toml, 10 epochs on the same utterances, {SEEDS} seeds of the whole pipeline."],
    )


def named(settings: dict[str, object]) -> dict[str, object]:
    """Turn dotted settings of `data` into the table of a data set."""
    splits = {key.split(".")[-1]: value for key, value in settings.items() if key.startswith("data.splits.")}
    return {"root": settings["data.root"], "phones": settings["data.phones"], "splits": splits}


def main(runs: int = 5) -> Iterator[Table]:
    if "STAGEWISE_TEST_DATA" not in os.environ:
        yield Table(["skipped"], [["STAGEWISE_TEST_DATA does not name a folder with librispeech-sample"]])
        return
    with tempfile.TemporaryDirectory() as name:
        yield from full_width(Path(name))
        yield probes(Path(name))


if __name__ == "__main__":
    print(*main(int(sys.argv[1]) if sys.argv[1:] else 5), sep="\n\n")
