"""A whole probe: its files, the same bytes each time, and what it says when there is nothing to fit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_data import InMemory, phones, speakers

from stagewise.durable import read_sealed
from stagewise.encoding.encode import Chain
from stagewise.errors import DataError
from stagewise.modules import Conv1d
from stagewise.modules.stage_module import StageModule
from stagewise.pipeline import Probe
from stagewise.probing.features import PooledFeatures, RowFeatures, labelled
from stagewise.probing.fit import ProbeJob, run_probe
from stagewise.runs.facts import of_accuracy
from stagewise.runs.records import probe_problems, read_predictions
from stagewise.signals import Stop
from stagewise.training.checkpoint import read_tensors
from stagewise.training.feed import RawSource
from stagewise.training.windows import Alignment

LENGTHS = [3000] * 8


def job(pool, labels=None, **probe):
    dataset = InMemory(LENGTHS, labels={"phone": phones(LENGTHS), "speaker": speakers(labels or [0, 0, 1, 1] * 2)})
    for item in (2, 3, 6, 7):
        dataset.arrays[item] += 1  # bob is louder
    torch.manual_seed(0)
    stage = StageModule(Conv1d(1, 6, 20, 10, 5), None, 1).eval()
    table = {"name": "p", "stages": "all", "labels": "speaker" if pool else "phone", "epochs": 30} | probe
    table |= {"pool": "mean"} if pool else {}
    chain, asked = Chain(RawSource(dataset), [stage], torch.device("cpu")), Probe.model_validate(table)

    alignment = Alignment(stage.geometry, asked.label_offset)
    if pool:
        classes = dataset.item_labels("speaker")
        means_NC = np.stack([np.concatenate(list(chain.rows(item))).mean(0) for item in range(8)])
        features = PooledFeatures(np.flatnonzero(classes >= 0), SimpleNamespace(read=means_NC.__getitem__), classes)
    else:
        frames = [(i, labelled(dataset, "phone", alignment, i, chain.lengths[i])[0]) for i in range(8)]
        rows_NC = np.concatenate([np.concatenate(list(chain.rows(item)))[rows] for item, rows in frames])
        features = RowFeatures(chain, dataset, "phone", alignment, rows_NC)

    return ProbeJob(
        asked,
        "conv1",
        dataset,
        features,
        torch.device("cpu"),
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
    names = ["predictions.safetensors", "probe.json", "probe.safetensors"]
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
    lines = list(read_predictions(tmp_path, result).lines(result["class_names"], per_row=False))
    assert [line["key"] for line in lines] == ["item-1", "item-3", "item-5", "item-7"]
    assert [(line["label"], line["predicted"]) for line in lines] == [(name, name) for name in ("ann", "bob") * 2]
    assert all(0.5 < line["probability"] <= 1 for line in lines)


def test_what_a_probe_of_rows_says(tmp_path):
    result = go(tmp_path, False, hidden=4, label_offset=0)
    assert 0 <= result["interval"][0] <= result["value"] <= result["interval"][1] <= 1
    assert (result["label_offset"], result["pool"], result["hidden"]) == (0, None, 4)
    assert result["test_rows"] > 4 * result["test_items"] == 16
    assert len(read_tensors(tmp_path / "probe.safetensors")) == 6
    found = read_predictions(tmp_path, result)
    assert result["interval"] == list(of_accuracy(found.correct_I, found.rows_I))
    assert found.correct_I.sum() / found.rows_I.sum() == result["value"]
    assert sum(found.confusion().values()) == result["test_rows"]
    lines = list(found.lines(result["class_names"], per_row=True))
    for number, (key, rows) in enumerate(zip(found.keys, found.rows_I.tolist(), strict=True)):
        mine = [line for line in lines if line["key"] == key]
        assert len(mine) == rows
        assert sum(line["label"] == line["predicted"] for line in mine) == found.correct_I[number]
        assert [line["row"] for line in mine] == sorted({line["row"] for line in mine})
    counted = [line for line in lines if (line["label"], line["predicted"]) == ("0", "1")]
    assert found.confusion().get((0, 1), 0) == len(counted)


@pytest.mark.parametrize("harm", ["missing", "cut", "other", "folder"])
def test_predictions_that_are_not_what_was_written_are_named(tmp_path, harm):
    go(tmp_path, True)
    path = tmp_path / "predictions.safetensors"
    content = path.read_bytes()
    path.unlink()
    if harm == "folder":
        path.mkdir()
    elif harm != "missing":
        path.write_bytes(content[:-9] if harm == "cut" else content[:-1] + bytes([content[-1] ^ 1]))
    (problem,) = probe_problems(tmp_path, "p")
    assert str(path) in problem
    assert problem.endswith(f"Delete {tmp_path} and type `stagewise probe p`.")


def test_a_result_of_an_older_version_has_no_predictions(tmp_path):
    result = go(tmp_path, True)
    del result["predictions"]
    assert read_predictions(tmp_path, result) is None


@pytest.mark.parametrize(("part", "labels"), [("training", [-1, 0] * 4), ("test", [0, -1] * 4)])
def test_nothing_to_fit_is_said(tmp_path, part, labels):
    with pytest.raises(DataError) as raised:
        go(tmp_path, True, labels)
    assert str(raised.value) == (
        f"probe p: no {part} item has a label 'speaker' and a row of stage conv1. Check data.splits and the labels."
    )
    assert not (tmp_path / "probe.json").exists()
