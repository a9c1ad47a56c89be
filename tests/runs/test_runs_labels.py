"""Labels that are not there, and probes whose data do not fit: said before anything is trained."""

import numpy as np
import pytest
import tiny
import tiny_images
from click.testing import CliRunner
from small_data import phones

import stagewise
from stagewise.cli.main import main
from stagewise.datasets.labels import FrameTable, ItemLabels
from stagewise.errors import ConfigError, DataError
from stagewise.pipeline import load_pipeline
from stagewise.runner import make, quiet
from stagewise.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_peaks")

CLASSES = {"target": "cross-entropy", "labels": "class"}


def refused(folder, kind, words, sets=None, error=DataError):
    """Run a pipeline that must be refused before a stage is trained."""
    with pytest.raises(error, match=words):
        stagewise.run(kind.write_pipeline(folder), run=folder / "run", set=sets or {})
    assert not list(folder.glob("run/stages/*"))


@pytest.mark.parametrize("schedule", ["iterative", "simultaneous"])
def test_an_objective_without_any_label(tmp_path, schedule):
    sets = {"data.unlabelled": 24, "stage.two.objective": CLASSES, "pipeline.schedule": schedule, "probe": []}
    refused(tmp_path, tiny_images, r"stage\.two\.objective: no training item has a label 'class'\. Give", sets)


def test_a_probe_without_any_label(tmp_path):
    refused(
        tmp_path, tiny_images, r"probe class: no training item has a label 'class'\. Check", {"data.unlabelled": 24}
    )


def test_a_probe_without_test_items(tmp_path):
    refused(
        tmp_path,
        tiny_images,
        r"probe class: no test item has a label 'class'\. Check",
        {"data.images": 2, "data.seed": 1},
    )


def test_a_probe_that_could_get_nothing_right(tmp_path, monkeypatch):
    """Every test item is of a speaker that no training item is of."""
    made = tiny.TinySpeech.__init__

    def init(self, **arguments):
        made(self, **arguments)
        items = np.arange(len(self))
        self.labels["speaker"] = ItemLabels(np.where(items % 2, 2, items // 2 % 2), ["ann", "bob", "cy"])

    monkeypatch.setattr(tiny.TinySpeech, "__init__", init)
    refused(tmp_path, tiny, "no training item has a label 'speaker' that a test item has: it could")


@pytest.mark.parametrize(
    ("kind", "data", "words"),
    [
        (
            tiny_images,
            {"target": "tiny_images:TinyImages", "patch": 4},
            r"shape \(1, 4, 4\), .* of \(1, 8, 8\); row_shape, patch, crop differ\. Give",
        ),
        (tiny_images, {"target": "digits"}, r"shape \(1, 8, 8\), .*; crop, mean, std differ\. Give"),
        (tiny_images, {"target": "tiny:TinySpeech"}, r"shape \(1,\), .* of \(1, 8, 8\); .* Give it the same patch"),
        (tiny, {"target": "tiny_images:TinyImages"}, r"shape \(1, 8, 8\), .* of \(1,\); .* Give it the same patch"),
    ],
)
def test_a_probe_on_data_of_another_shape(tmp_path, kind, data, words):
    name = "class" if kind is tiny_images else "speaker"
    refused(tmp_path, kind, rf"probe\.{name}\.data: its rows are of {words}", {f"probe.{name}.data": data}, ConfigError)


def test_an_offset_of_labels_has_no_meaning_for_items(tmp_path):
    words = r"probe\.speaker\.label_offset: is for labels per row; with `pool` leave it out"
    refused(tmp_path, tiny, words, {"probe.speaker.label_offset": 2}, ConfigError)


def test_labels_are_not_asked_for_again_where_they_are(tmp_path):
    pipeline = load_pipeline(tiny_images.write_pipeline(tmp_path), {"stage.two.objective": CLASSES})
    make(pipeline, RunFolder(tmp_path / "run"), quiet)
    assert list(tmp_path.glob("run/probes/*/probe.json"))


class Few(tiny.TinySpeech):
    """Of one class, or only some of the items labelled."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind == "one speaker":
            self.labels["speaker"].classes[:] = 1
        elif kind == "one phone":
            self.labels["phones"].classes[:] = 2
        else:
            begin = self.labels["phones"].offsets.copy()
            keep = self.split("train" if kind == "no test phones" else "test")
            counts = [n if item in keep else 0 for item, n in enumerate(np.diff(begin).tolist())]
            classes = [self.labels["phones"].classes[begin[i] : begin[i] + n] for i, n in enumerate(counts)]
            self.labels["phones"] = FrameTable(np.concatenate(classes), np.cumsum([0, *counts]), ["0", "1", "2"])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("one speaker", r"probe speaker: all training items have the same label 'speaker', 'bob': .* Check"),
        ("one phone", r"probe phones: all training items have the same label 'phones', '2': there is nothing to tell"),
        ("no test phones", r"probe phones: no test item has a label 'phones'\. Check"),
        ("no training phones", r"probe phones: no training item has a label 'phones'\. Check"),
    ],
)
def test_labels_that_tell_nothing_apart(tmp_path, kind, words):
    refused(tmp_path, tiny, words, {"data": {"target": "test_runs_labels:Few", "kind": kind}})


def test_an_objective_with_one_class(tmp_path):
    objective = {"target": "cross-entropy", "labels": "speaker"}
    sets = {"data": {"target": "test_runs_labels:Few", "kind": "one speaker"}, "stage.two.objective": objective}
    refused(tmp_path, tiny, r"stage\.two\.objective: all training items have the same label 'speaker'", sets)


@pytest.mark.parametrize("write", [True, False])
def test_items_too_short_for_a_stage_higher_up(tmp_path, write):
    sets = {"stage.context.objective.window": 200, "stage.two.store.write": write}
    words = r"stage context: no training item is long enough for a window of 200 rows.*stage.context.objective.window"
    refused(tmp_path, tiny, words, sets)


def test_labelled_items_without_a_row_are_counted_and_named(tmp_path, monkeypatch):
    """They are in neither number of the probe: not those trained on, not those told wrong."""
    made = tiny.TinySpeech.__init__

    def init(self, **arguments):
        made(self, **arguments)
        for item in (1, 4):
            self.arrays[item] = self.arrays[item][:, :3]
            self.lengths[item] = 3
        self.labels["phones"] = phones(self.lengths)

    monkeypatch.setattr(tiny.TinySpeech, "__init__", init)
    told = []
    facts = stagewise.run(
        tiny.write_pipeline(tmp_path), run=tmp_path / "run", report=lambda kind, **said: told.append(said.get("text"))
    )
    for stage in ("one", "two", "context"):
        assert f"probe speaker: 2 items with a label have no row of stage {stage}: too short for one." in told
    speaker = [probe for probe in facts["probes"] if probe["name"] == "speaker"]
    assert [(probe["too_short"], probe["train_items"], probe["test_items"]) for probe in speaker] == [(2, 5, 5)] * 3
    shown = " ".join(CliRunner().invoke(main, ["inspect", str(tmp_path / "run")]).stdout.split())
    assert "speaker: 2 items with a label are in neither number: too short for a row of one, two, context." in shown
