"""What every data set shares: keys, labels and their errors, and that it can travel to worker processes."""

from __future__ import annotations

import copy
import subprocess
import sys
from pkgutil import resolve_name

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagewise.datasets import SHORT_NAMES
from stagewise.datasets.base import Dataset, Keys
from stagewise.datasets.labels import FrameTable, ItemLabels
from stagewise.errors import DataError


class Tiny(Dataset):
    """Two items with a label of each kind."""

    sample_rate = 16_000
    keys = ("a", "b")
    lengths = np.array([400, 560])
    bad = []  # noqa: RUF012
    labels = {  # noqa: RUF012
        "speaker": ItemLabels.from_names(["x", ""]),
        "phones": FrameTable(np.array([3, 4], dtype=np.int16), np.array([0, 0, 2]), ["0", "1", "2", "3", "4"]),
    }

    def read(self, item, start, stop):
        return np.zeros((1, stop - start), dtype=np.float32)

    def split(self, name):
        return np.array([0 if name == "train" else 1])

    def fingerprint(self):
        return "0"


def test_importing_the_package_does_not_import_torch():
    code = (
        "import sys, stagewise.datasets, stagewise.datasets.librispeech, stagewise.datasets.audio_folder, "
        "stagewise.datasets.synthetic_speech; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_short_names_are_data_sets(name):
    assert issubclass(resolve_name(SHORT_NAMES[name]), Dataset)


@given(st.lists(st.text(), max_size=20))
def test_keys_are_a_list_of_strings(keys):
    keys = [key.encode(errors="replace").decode() for key in keys]
    compact = Keys(keys)
    assert len(compact) == len(keys)
    assert list(compact) == keys
    assert compact[1:-1] == keys[1:-1]
    assert [compact[index] for index in range(-len(keys), 0)] == keys
    with pytest.raises(IndexError):
        compact[len(keys)]


def test_labels_of_both_kinds():
    tiny = Tiny()
    assert len(tiny) == 2
    assert tiny.channels == 1
    assert tiny.label_kind("speaker") == "item"
    assert tiny.label_kind("phones") == "frames"
    assert tiny.label_classes("speaker") == ["x"]
    assert tiny.item_labels("speaker").tolist() == [0, -1]
    assert tiny.frame_labels("phones", 0) is None
    labels = tiny.frame_labels("phones", 1)
    assert labels is not None
    assert (labels.classes.tolist(), labels.hop, labels.first) == ([3, 4], 160, 200.0)
    assert labels.classes.dtype == np.int64
    assert Tiny.expected(root="x") is None


def test_without_images_a_row_is_a_sample_of_every_channel():
    tiny = Tiny()
    assert (tiny.row_shape, tiny.grids, tiny.crop, tiny.views) == ((1,), None, None, 1)
    assert tiny.pool().tolist() == tiny.split("train").tolist() == [0]


@pytest.mark.parametrize("method", ["item_labels", "label_kind", "label_classes", "label_fingerprint"])
def test_an_unknown_label_names_the_known_ones(method):
    with pytest.raises(DataError, match=r"no label 'sex'; it has: 'speaker', 'phones'\. Set `labels` to one of them"):
        getattr(Tiny(), method)("sex")
    with pytest.raises(DataError, match="no label 'sex'"):
        Tiny().frame_labels("sex", 0)
    with pytest.raises(DataError, match="Where labels come from: this data set brings its own"):
        Tiny().item_labels("sex")


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("librispeech", ["data.phones", "folder", "speaker"]),
        ("audio-folder", ["data.labels", '"folder"', '"TABLE.csv"', "data.phones"]),
        ("image-folder", ["folder", "data.root", "class"]),
    ],
)
def test_every_data_set_names_the_keys_that_give_its_labels(name, keys):
    said = resolve_name(SHORT_NAMES[name]).label_sources
    assert all(key in said for key in keys)


def test_a_label_of_the_other_kind_says_what_to_change():
    with pytest.raises(DataError, match="'phones' is one class per frame: a probe on it cannot have `pool`"):
        Tiny().item_labels("phones")
    with pytest.raises(DataError, match="'speaker' is one class per item: a probe on it needs `pool"):
        Tiny().frame_labels("speaker", 0)


def test_label_fingerprints_change_with_classes_and_names():
    tiny = Tiny()
    before = {name: tiny.label_fingerprint(name) for name in tiny.labels}
    assert before == {name: Tiny().label_fingerprint(name) for name in tiny.labels}
    assert before["speaker"] != before["phones"]
    changed = Tiny()
    changed.labels = {
        "speaker": ItemLabels.from_names(["y", ""]),
        "phones": FrameTable(np.array([3, 0], dtype=np.int16), np.array([0, 0, 2]), tiny.labels["phones"].names),
    }
    for name in tiny.labels:
        assert changed.label_fingerprint(name) != before[name]


def test_a_data_set_can_be_copied_to_another_process(speech):
    data = resolve_name(SHORT_NAMES["librispeech"])(root=str(speech(["1-1-0000", "1-1-0001", "2-1-0000"])))
    twin = copy.deepcopy(data)
    assert list(twin.keys) == list(data.keys)
    assert twin.fingerprint() == data.fingerprint()
    np.testing.assert_array_equal(twin.read(1, 5, 50), data.read(1, 5, 50))
