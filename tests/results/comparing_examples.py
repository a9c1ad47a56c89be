"""Run directories without any training: lock, records and probes written as `stagewise run` writes them."""

from pathlib import Path

from stagewise import durable
from stagewise.pipeline import load_text
from stagewise.runs.folder import RunFolder
from stagewise.runs.records import commit

MEMORY = {"pieces": 1, "by_category": {}}
STORE = {"state": "recomputed", "why": "", "dtype": "int8", "rows": 10, "bytes": 0, "float32_bytes": 0}
TRAIN = {"steps": 1, "initial_loss": 2.0, "loss": 1.0, "validation_loss": 1.0, "converged": False}
SECONDS = {"seconds": 1.0, "data_wait_seconds": 0.0}
PIPELINE = """
format = 1
[pipeline]
name = "tiny"
[data]
target = "librispeech"
root = "x"
[[stage]]
name = "low"
encoder = { target = "conv1d", in_channels = 1, out_channels = 8, kernel_size = 10, stride = 5, padding = 2 }
[[stage]]
name = "top"
encoder = { target = "conv1d", in_channels = 8, out_channels = 8, kernel_size = 8, stride = 4, padding = 2 }
"""
PROBE = """
[[probe]]
name = "{name}"
stages = "all"
labels = "{labels}"
"""


def probe_result(value, stage="top", **other):
    """A result of the probe "speaker" on 100 items."""
    return {
        "format": 1, "name": "speaker", "stage": stage, "labels": "speaker", "metric": "accuracy", "value": value,
        "interval": [value - 0.04, value + 0.02], "majority": 0.25, "train_items": 300, "test_items": 100,
        "classes": 4, "hidden": None, "sha256": "e" * 64, **other,
    }  # fmt: skip


def write_run(
    path: Path,
    probes=(),
    system=None,
    seed=0,
    epochs=5,
    data=None,
    fingerprint="d" * 64,
    done=("low", "top"),
    peaks=(1000, 3000),
    unfinished=(),
):
    """Write a run of two stages.

    Args:
        probes: finished results, lowest stage first.
        data: the data table of the pipeline.
        fingerprint: of that data set.
        done: names of the finished stages.
        peaks: measured bytes of the stages; predicted are 10 more.
        unfinished: (probe, stage, labels) that are asked for and not there.
    """
    run = RunFolder(path)
    path.mkdir(parents=True)
    stages = []
    for index, (name, peak) in enumerate(zip(("low", "top"), peaks, strict=True), 1):
        folder = run.stage(index, name, "a" * 64)
        stages.append(
            {
                "index": index,
                "name": name,
                "fingerprint": "a" * 64,
                "folder": folder.name,
                "precision": "float32",
                "parameters": 1,
                "float32_bytes": 0,
                "rows": 10,
                "policy": {"write": True, "compress": "none", "why": "it fits on the disk"},
                "pieces": 1,
                "peak": peak + 10,
                "by_category": {},
            }
        )
        if name in done:
            folder.mkdir(parents=True)
            durable.write_bytes(folder / "encoder.safetensors", b"weights")
            memory = {"predicted_peak_bytes": peak + 10, "measured_peak_bytes": peak, **MEMORY}
            record = {"index": index, "name": name, "fingerprint": "a" * 64}
            record |= {"train": {"epochs": epochs, **TRAIN, **SECONDS}, "store": {**STORE, "seconds": 0.0}}
            record |= {"identity": {"train": {"below": fingerprint}}, "health": {"warnings": []}, "environment": {}}
            record["store"]["forward_seconds"] = 0.0
            commit(folder, record | {"memory": memory})
    asked = [(p["name"], p["stage"], p["labels"], p.get("random", False)) for p in probes]
    asked += [(*each, False) for each in unfinished]
    for result in probes:
        folder = run.probe(result["name"], result["stage"], ("e" if result.get("random") else "b") * 64)
        folder.mkdir(parents=True)
        durable.write_sealed(folder / "probe.json", result)
    sets = {"pipeline.seed": seed, "defaults.train.epochs": epochs}
    sets |= {f"data.{key}": value for key, value in (data or {"root": str(path)}).items()}
    sets |= {} if system is None else {"pipeline.system": system}
    labels = dict.fromkeys((name, label) for name, _, label, _ in asked)
    text = PIPELINE + "".join(PROBE.format(name=name, labels=label) for name, label in labels)
    run.lock(
        {
            "format": 1,
            "pipeline": load_text(text, "tiny.toml", sets).model_dump(mode="json"),
            "device": "cpu",
            "keys": {"disk": "", "memory": ""},
            "input": {"channels": 1, "row_shape": [1], "sample_rate": 16000, "mean": 0.0, "std": 1.0},
            "end_to_end": {"peak": 9000 + seed, "by_category": {}},
            "stages": stages,
            "probes": [
                {
                    "name": name,
                    "stage": stage,
                    "labels": labels,
                    "random": random,
                    "folder": run.probe(name, stage, ("e" if random else "b") * 64).name,
                }
                for name, stage, labels, random in asked
            ],
        }
    )
    return run
