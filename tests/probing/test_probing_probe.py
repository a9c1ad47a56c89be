"""A whole probe: its files, the same bytes each time, and what it says when there is nothing to fit."""

import pytest
import torch
from small_data import InMemory, phones, speakers

from stagewise.atomic import read_sealed
from stagewise.config import Probe
from stagewise.encoding.encode import Chain
from stagewise.errors import DataError
from stagewise.modules import Conv1d
from stagewise.modules.stage_module import StageModule
from stagewise.probing.probe import ProbeJob, run_probe
from stagewise.stopping import Stop
from stagewise.training.checkpoint import read_tensors
from stagewise.windows.source import RawSource

LENGTHS = [3000] * 8


def job(pool, labels=None, **probe):
    dataset = InMemory(LENGTHS, labels={"phone": phones(LENGTHS), "speaker": speakers(labels or [0, 0, 1, 1] * 2)})
    for item in (2, 3, 6, 7):
        dataset.arrays[item] += 1  # bob is louder
    torch.manual_seed(0)
    stage = StageModule(Conv1d(1, 6, 20, 10, 5), None, 1).eval()
    table = {"name": "p", "stages": "all", "labels": "speaker" if pool else "phone", "epochs": 30} | probe
    table |= {"pool": "mean"} if pool else {}
    return ProbeJob(
        Probe.model_validate(table),
        "conv1",
        dataset,
        Chain(RawSource(dataset), [stage], torch.device("cpu")),
        stage.geometry,
        lambda module: torch.optim.Adam(module.parameters(), lr=1e-2),
        3,
        "f" * 64,
    )


def go(folder, *args, **kwargs):
    return run_probe(job(*args, **kwargs), folder, Stop(), lambda *_, **__: None)


@pytest.mark.parametrize("pool", [True, False])
def test_the_same_inputs_give_the_same_bytes(tmp_path, pool):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "rows.partial").write_bytes(b"left by a kill")
    results = [go(tmp_path / name, pool) for name in "ab"]
    assert results[0] == results[1]
    names = ["probe.json", "probe.safetensors"]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == names
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert read_sealed(tmp_path / "a" / "probe.json", "") == results[0]


def test_what_a_pooled_probe_says(tmp_path):
    result = go(tmp_path, True)
    assert (result["value"], result["majority"]) == (1.0, 0.5)
    assert (result["train_items"], result["test_items"]) == (4, 4)
    assert result["interval"] == pytest.approx([0.510, 1.0], abs=0.001)  # Wilson, 4 of 4
    assert (result["label_offset"], result["pool"], result["classes"]) == (None, "mean", 2)
    assert set(read_tensors(tmp_path / "probe.safetensors")) == {"0.bias", "0.weight", "deviation", "mean"}


def test_what_a_probe_of_rows_says(tmp_path):
    result = go(tmp_path, False, hidden=4, label_offset=0)
    assert 0 <= result["interval"][0] <= result["value"] <= result["interval"][1] <= 1
    assert (result["label_offset"], result["pool"], result["hidden"]) == (0, None, 4)
    assert result["test_rows"] > 4 * result["test_items"] == 16
    assert len(read_tensors(tmp_path / "probe.safetensors")) == 6


@pytest.mark.parametrize(("part", "labels"), [("training", [-1, 0] * 4), ("test", [0, -1] * 4)])
def test_nothing_to_fit_is_said(tmp_path, part, labels):
    with pytest.raises(DataError) as raised:
        go(tmp_path, True, labels)
    assert str(raised.value) == (
        f"probe p: no {part} item has a label 'speaker' and a row of stage conv1. Check data.splits and the labels."
    )
    assert not (tmp_path / "probe.json").exists()
