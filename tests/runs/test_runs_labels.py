"""Labels that are not there, and probes whose data do not fit: said before anything is trained."""

import pytest
import tiny
import tiny_images

import stagewise
from stagewise.config import load_pipeline
from stagewise.errors import ConfigError, DataError
from stagewise.runner import make, quiet
from stagewise.runs.folder import RunFolder

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
    refused(tmp_path, tiny_images, r"probe class: no test item has a label 'class'\. Check", {"data.images": 2})


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


def test_labels_are_not_asked_for_again_where_they_are(tmp_path):
    pipeline = load_pipeline(tiny_images.write_pipeline(tmp_path), {"stage.two.objective": CLASSES})
    make(pipeline, RunFolder(tmp_path / "run"), quiet)
    assert list(tmp_path.glob("run/probes/*/probe.json"))
