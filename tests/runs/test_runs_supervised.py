"""Stages that learn from labels: which items they see, what they are given, and labels of the wrong kind."""

import json

import numpy as np
import pytest
import tiny
import tiny_images
import torch

import stagewise
from stagewise.datasets.labels import FrameTable, ItemLabels
from stagewise.errors import ConfigError, DataError
from stagewise.objectives import CrossEntropy
from stagewise.pipeline import load_pipeline
from stagewise.runner import plan_pipeline
from stagewise.runs.folder import RunFolder
from stagewise.training.windows import Alignment

pytestmark = pytest.mark.usefixtures("no_peaks")

SPEAKER = {"target": "cross-entropy", "labels": "speaker"}
PHONES = {"target": "cross-entropy", "labels": "phones", "pool": "none"}
CLASS = {"target": "cross-entropy", "labels": "class"}


class PartlyLabelled(tiny.TinySpeech):
    """Items 0 and 7 have no speaker, items 4 and 6 no phones."""

    def __init__(self) -> None:
        super().__init__()
        classes = self.labels["speaker"].classes.copy()
        classes[[0, 7]] = -1
        table = self.labels["phones"]
        counts = np.diff(table.offsets)
        keep = np.repeat(~np.isin(np.arange(len(self)), [4, 6]), counts)
        counts[[4, 6]] = 0
        offsets = np.concatenate([[0], np.cumsum(counts)])
        frames = FrameTable(table.classes[keep], offsets, table.names)
        self.labels = {"speaker": ItemLabels(classes, ["ann", "bob"]), "phones": frames}

    def split(self, name):
        return np.arange(12) if name == "train" else np.arange(0)


@pytest.fixture
def given(monkeypatch):
    """What the objectives were given: (shape of c, y, whether to train)."""
    seen, forward = [], CrossEntropy.forward

    def spy(self, z_BCT, c_BDT, generator=None, y=None):
        seen.append((tuple(c_BDT.shape), y, torch.is_grad_enabled()))
        return forward(self, z_BCT, c_BDT, generator, y)

    monkeypatch.setattr(CrossEntropy, "forward", spy)
    return seen


def without_probes(text):
    return text.partition("[[probe]]")[0]


def audio(tmp_path, sets, until=None, text=None, **options):
    file = tiny.write_pipeline(tmp_path, without_probes(text or tiny.TOML))
    sets = {"data": {"target": f"{__name__}:PartlyLabelled", "validation": 0.2}, **sets}
    return stagewise.run(file, run=tmp_path / "run", set=sets, until=until, **options)


def images(tmp_path, sets, **options):
    file = tiny_images.write_pipeline(tmp_path, without_probes(tiny_images.TOML))
    return stagewise.run(file, run=tmp_path / "run", set=sets, **options)


def metrics(tmp_path, stage):
    (path,) = tmp_path.glob(f"run/stages/*-{stage}-*/metrics.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def real(seen):
    """Those that were computed, not those of a forecast."""
    return [each for each in seen if type(each[1]) is torch.Tensor]


def test_one_class_an_item_is_learnt_from_items_that_have_it(tmp_path, jobs, given):
    sets = {"stage.one.objective": {**SPEAKER, "window": 16}, "defaults.train.epochs": 8, "defaults.train.patience": 99}
    facts = audio(tmp_path, {**sets, "defaults.train.optimizer.lr": 0.02}, until="one")
    (job,) = jobs
    trained, held_out = job.windows.items.tolist(), job.validation.items.tolist()
    assert sorted(trained + held_out) == [item for item in range(12) if item not in (0, 7)]
    assert len(held_out) == 2
    assert {shape[1:] for shape, *_ in real(given)} == {(8, 16)}
    assert {tuple(y.shape) for _, y, _ in real(given)} <= {(4,), (8,)}
    lines = metrics(tmp_path, "one")
    assert all(0 <= line["validation_accuracy"] <= 1 for line in lines)
    assert min(line["loss"] for line in lines[1:]) < 0.9 * lines[1]["loss"]
    assert facts["stages"][0]["train"]["skipped_items"] == 0


def test_the_classes_are_those_of_the_windows_items(tmp_path, jobs, given):
    audio(tmp_path, {"stage.one.objective": {**SPEAKER, "window": 16}, "defaults.train.epochs": 1}, until="one")
    (job,) = jobs
    classes = PartlyLabelled().item_labels("speaker")
    expected = [
        classes[batch.items].tolist()
        for batches in (
            job.validation.batches(4, 0, "one", "validation"),
            job.windows.batches(4, 0, "one", "epoch", 1),
            job.validation.batches(4, 0, "one", "validation"),
            job.validation.batches(4, 0, "one", "validation again"),  # of the weights that were chosen
        )
        for batch in batches
    ]
    assert [y.tolist() for _, y, _ in real(given)] == expected


@pytest.mark.parametrize("schedule", ["iterative", "simultaneous"])
def test_one_class_a_row_lies_where_its_frame_does(tmp_path, jobs, given, schedule):
    sets = {"pipeline.schedule": schedule, "defaults.train.epochs": 1, "defaults.train.precision": "float32"}
    text = tiny.TOML[: tiny.TOML.index('[[stage]]\nname = "context"')]
    objectives = {f"stage.{name}.objective": {**PHONES, "window": 8} for name in ("one", "two")}
    audio(tmp_path, {**sets, **objectives}, text=text)
    assert {shape[2] for shape, *_ in real(given)} == {8}
    assert {tuple(y.shape[1:]) for _, y, _ in real(given)} == {(8,)}
    data = PartlyLabelled()
    for job in jobs:
        items = job.windows.items.tolist() + job.validation.items.tolist()
        assert not {4, 6} & set(items)
    top = jobs[-1]
    member, (*_, batch) = top.members[-1], top.windows.batches(4, 0, "two", "epoch", 1)
    first = batch.begins // member.geometry.hop + np.array(batch.skips)
    (*_, ys) = (y for _, y, trains in real(given) if trains)
    for y_T, item, begin in zip(ys, batch.items.tolist(), first.tolist(), strict=True):
        labels = data.frame_labels("phones", item)
        rows = Alignment(member.classes.alignment.geometry).rows(labels).tolist()
        found = dict(zip(rows, labels.classes.tolist(), strict=True))
        assert y_T.tolist() == [found.get(begin + row, -1) for row in range(8)]
    assert metrics(tmp_path, "two")[-1]["accuracy"] >= 0


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (
            {**SPEAKER, "pool": "none"},
            r"needs one class per frame, and label 'speaker' is one per item\. Set its `pool`",
        ),
        ({**PHONES, "pool": "mean"}, r"needs one class per item, and label 'phones' is one per frame\."),
    ],
)
def test_a_label_of_the_wrong_kind_is_refused(tmp_path, objective, words):
    with pytest.raises(ConfigError, match=words) as raised:
        audio(tmp_path, {"stage.one.objective": objective})
    assert "stage.one.objective" in str(raised.value)


def test_a_label_of_the_wrong_kind_is_refused_before_anything_is_trained(tmp_path):
    """Not after the stages below have been trained for days."""
    file = tiny.write_pipeline(tmp_path)
    pipeline = load_pipeline(file, {"stage.context.objective": {**SPEAKER, "pool": "none"}})
    with pytest.raises(ConfigError, match="needs one class per frame, and label 'speaker' is one per item"):
        plan_pipeline(pipeline, RunFolder(tmp_path / "run"))


@pytest.mark.parametrize(
    ("objective", "error", "words"),
    [
        ({"target": "cross-entropy", "labels": "emotion"}, DataError, "no label 'emotion'"),
        ({"target": "cross-entropy"}, ConfigError, r'needs the name of a label, such as labels = "class"'),
        ({**SPEAKER, "classes": 3}, ConfigError, "stagewise gives 'classes' itself|stagewise gives \"classes\" itself"),
    ],
)
def test_labels_that_are_not_there_are_found_when_planning(tmp_path, objective, error, words):
    pipeline = load_pipeline(tiny.write_pipeline(tmp_path), {"stage.context.objective": objective})
    with pytest.raises(error, match=words):
        plan_pipeline(pipeline, RunFolder(tmp_path / "run"))


@pytest.mark.parametrize("schedule", ["iterative", "simultaneous"])
def test_greedy_supervised_on_images(tmp_path, jobs, given, schedule):
    sets = {f"stage.{name}.objective": CLASS for name in ("one", "two")}
    data = {"target": "tiny_images:TinyImages", "unlabelled": 6, "validation": 0.2}
    facts = images(tmp_path, {**sets, "data": data, "pipeline.schedule": schedule, "defaults.train.epochs": 1})
    assert [stage["state"] for stage in facts["stages"]] == ["complete"] * 2
    made = tiny_images.TinyImages(unlabelled=6)
    labelled = [item for item in made.split("train").tolist() if made.item_labels("class")[item] >= 0]
    for job in jobs:
        assert sorted(job.windows.items.tolist() + job.validation.items.tolist()) == labelled
    assert {shape[1:] for shape, *_ in real(given)} == {(8, 4, 4), (12, 4, 4)}
    for name in ("one", "two"):
        assert "accuracy" in metrics(tmp_path, name)[-1]


def test_unlabelled_images_are_trained_on_without_labels(tmp_path, jobs):
    data = {"target": "tiny_images:TinyImages", "unlabelled": 6, "validation": 0.2}
    images(tmp_path, {"data": data, "defaults.train.epochs": 1}, until="one")
    made = tiny_images.TinyImages(unlabelled=6)
    items = sorted(jobs[0].windows.items.tolist() + jobs[0].validation.items.tolist())
    assert items == made.pool().tolist()
    assert set(range(18, 24)) <= set(items)


def test_labels_for_one_stage_of_several_in_sync_keep_all_to_labelled_items(tmp_path, jobs):
    data = {"target": "tiny_images:TinyImages", "unlabelled": 6, "validation": 0.2}
    sets = {"data": data, "stage.two.objective": CLASS, "pipeline.schedule": "simultaneous"}
    images(tmp_path, {**sets, "defaults.train.epochs": 1})
    (job,) = jobs
    assert max(job.windows.items.max(), job.validation.items.max()) < 18


@pytest.mark.parametrize(
    ("objective", "metric"),
    [
        ({"target": "predsim", "labels": "class"}, "mismatch"),
        ({"target": "deep-infomax", "units": 16}, "information"),
        ({"target": "deep-infomax", "units": 16, "loss": "jsd"}, "divergence"),
    ],
)
def test_other_objectives_run_on_images(tmp_path, objective, metric):
    sets = {"stage.one.objective": objective, "stage.two.objective": objective, "defaults.train.epochs": 1}
    facts = images(tmp_path, sets)
    assert facts["state"] == "complete"
    for name in ("one", "two"):
        assert all(np.isfinite(line[f"validation_{metric}"]) for line in metrics(tmp_path, name))


def test_an_end_to_end_network_on_whole_images_is_supervised(tmp_path, given):
    data = {"target": "tiny_images:TinyImages", "patch": 0, "validation": 0.2}
    sets = {"data": data, "stage.one.objective": CLASS, "defaults.train.epochs": 1}
    facts = images(tmp_path, sets, until="one")
    assert facts["stages"][0]["state"] == "complete"
    assert {shape[1:] for shape, *_ in real(given)} == {(8, 20, 20)}  # the map of the one row that an image is


def test_a_stage_that_is_trained_on_other_items_says_which(tmp_path):
    audio(tmp_path, {"stage.two.objective": SPEAKER, "defaults.train.epochs": 0})
    stages = stagewise.open(tmp_path / "run").stages
    words = {name: stages[name].store.splits.tolist() for name in ("two", "context")}
    assert [word == "none" for word in words["two"]] == [item in (0, 7) for item in range(12)]
    assert "none" not in words["context"]
    assert (tmp_path / "run/items.csv").read_text().splitlines()[0] == "key,length,split,split:two"


def test_a_mirror_image_is_for_what_its_image_is_for(tmp_path):
    images(tmp_path, {"data.views": 2, "defaults.train.epochs": 0, "stage.two.store.write": True})
    words = stagewise.open(tmp_path / "run").stages["two"].store.splits
    np.testing.assert_array_equal(words[::2], words[1::2])
    assert np.flatnonzero(words[::2] == "test").tolist() == [*range(2, 24, 3)]
