"""Run directories without any training: lock, records and probes written as `stagewise run` writes them."""

from pathlib import Path

from stagewise import atomic
from stagewise.runs.folder import RunFolder
from stagewise.runs.record import commit

MEMORY = {"pieces": 1, "by_category": {}}


def probe_result(value, stage="top", **other):
    """A result of the probe "speaker" on 100 items."""
    return {
        "format": 1, "name": "speaker", "stage": stage, "labels": "speaker", "metric": "accuracy", "value": value,
        "interval": [value - 0.04, value + 0.02], "majority": 0.25, "train_items": 300, "test_items": 100,
        "classes": 4, "hidden": None, **other,
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
                "policy": {"write": True, "why": "it fits on the disk"},
                "pieces": 1,
                "peak": peak + 10,
                "by_category": {},
            }
        )
        if name in done:
            folder.mkdir(parents=True)
            atomic.write_bytes(folder / "encoder.safetensors", b"weights")
            memory = {"predicted_peak_bytes": peak + 10, "measured_peak_bytes": peak, **MEMORY}
            record = {"index": index, "name": name, "fingerprint": "a" * 64, "train": {"epochs": epochs}}
            record |= {"identity": {"train": {"below": fingerprint}}, "store": {"state": "recomputed"}}
            commit(folder, record | {"memory": memory, "health": {}, "environment": {}})
    asked = [(p["name"], p["stage"], p["labels"]) for p in probes] + list(unfinished)
    for result in probes:
        folder = run.probe(result["name"], result["stage"], "b" * 64)
        folder.mkdir(parents=True)
        atomic.write_sealed(folder / "probe.json", result)
    pipeline = {
        "pipeline": {"name": "tiny", "system": system, "seed": seed, "schedule": "iterative", "memory_limit": None},
        "data": data or {"target": "librispeech", "root": str(path)},
        "stage": [{"name": name, "train": {"epochs": epochs}} for name in ("low", "top")],
        "probe": [{"name": name, "labels": labels, "data": None} for name, labels in {(n, la) for n, _, la in asked}],
    }
    run.lock(
        {
            "format": 1,
            "pipeline": pipeline,
            "device": "cpu",
            "end_to_end": {"peak": 9000 + seed, "by_category": {}},
            "stages": stages,
            "probes": [
                {"name": name, "stage": stage, "labels": labels, "folder": run.probe(name, stage, "b" * 64).name}
                for name, stage, labels in asked
            ],
        }
    )
    return run
