"""Examples of a chain: the right row for every label, whatever way it is read."""

import errno
import gc
import re
from functools import partial
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_data import InMemory, phones, speakers, write_store

from stagewise.encoding import encode as encoding
from stagewise.encoding.encode import Chain
from stagewise.encoding.shared_pass import Rung
from stagewise.errors import DataError, DiskError, Interrupted
from stagewise.modules import Conv1d, Geometry, Layer
from stagewise.modules.stage_module import StageModule
from stagewise.probing.features import SEGMENT, RowFeatures
from stagewise.probing.rows import LabelledRows, read_items
from stagewise.signals import Stop
from stagewise.training.feed import RawSource, StoreSource
from stagewise.training.windows import Alignment

LENGTHS = [9000, 300, 0, 16000, 4010, 23456]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch):
    monkeypatch.setattr(encoding, "stream", partial(encoding.stream, piece_bytes=1))  # 64 rows


def quiet(*_, **__):
    pass


def dataset():
    labels = {"phone": phones(LENGTHS), "speaker": speakers([0, 1, 0, -1, 1, 0])}
    return InMemory(LENGTHS, labels=labels)


def chain(kind, tmp_path):
    """The same rows, computed again or read from a store."""
    torch.manual_seed(0)
    stage = StageModule(Conv1d(1, [5, 6], [10, 16], [5, 16], [2, 5]), None, 1).eval()
    computed = Chain(RawSource(dataset()), [stage], CPU)
    if kind == "computed":
        return computed, stage.geometry
    items = [np.concatenate([np.empty((0, 6), np.float32), *computed.rows(i)]) for i in range(len(LENGTHS))]
    return Chain(StoreSource(write_store(tmp_path / "store", items)), [], CPU), stage.geometry


def gathered(some, tmp_path, alignment, in_memory, stop=None):
    """All labelled rows, read in one pass."""
    asked = ("p",), "s", 0, dataset(), False, np.arange(len(LENGTHS))
    wanted = LabelledRows(*asked, "phone", alignment, tmp_path, in_memory, some.channels)
    ladders = SimpleNamespace(ladders=lambda *_: [{0: Rung(some)}])
    read_items(ladders, [wanted], stop or Stop(), quiet)
    return wanted.rows_NC


def row_features(kind, tmp_path, in_memory=True, stop=None, geometry=None):
    some, own = chain(kind, tmp_path)
    alignment = Alignment(geometry or own)
    rows_NC = None if in_memory is None else gathered(some, tmp_path, alignment, in_memory, stop)
    return RowFeatures(some, dataset(), "phone", alignment, rows_NC)


def expected(tmp_path, geometry=None):
    """Every labelled frame's row, by a loop."""
    some, own = chain("computed", tmp_path)
    examples = []
    for item in range(len(LENGTHS)):
        frames = dataset().frame_labels("phone", item)
        if frames is None:
            continue
        rows = np.concatenate(list(some.rows(item)))
        for frame, row in enumerate(Alignment(geometry or own).rows(frames)):
            if frames.classes[frame] >= 0 and 0 <= row < len(rows):
                examples.append((item, rows[row], frames.classes[frame]))
    return examples


@pytest.mark.parametrize("geometry", [None, Geometry((Layer(320, 320),))])  # two rows a label; two labels a row
@pytest.mark.parametrize(
    ("kind", "in_memory"),
    [("computed", True), ("computed", False), ("stored", True), ("stored", False), ("stored", None)],
)
def test_rows_however_they_are_read(tmp_path, kind, in_memory, geometry):
    features = row_features(kind, tmp_path, in_memory, geometry=geometry)
    assert type(features.rows_NC) is {True: np.ndarray, False: np.memmap, None: type(None)}[in_memory]
    wanted = expected(tmp_path, geometry)
    read = [features.read(segment) for segment in range(len(features.items))]
    assert [len(y) for _, y in read] == features.counts.tolist()
    rows = [features.rows(segment).tolist() for segment in range(len(features.items))]
    some, _ = chain(kind, tmp_path)
    for item, segment, (x_NC, _) in zip(features.items.tolist(), rows, read, strict=True):
        np.testing.assert_allclose(np.concatenate(list(some.rows(item)))[segment], x_NC, atol=1e-6)
    assert features.counts.max() == SEGMENT
    assert np.repeat(features.items, features.counts).tolist() == [item for item, _, _ in wanted]
    assert np.concatenate([y for _, y in read]).tolist() == [y for _, _, y in wanted]
    np.testing.assert_allclose(np.concatenate([x for x, _ in read]), [x for _, x, _ in wanted], atol=1e-6)
    assert all(x.dtype == np.float32 and y.dtype == np.int64 for x, y in read)


def test_a_file_of_rows_has_no_name_that_a_kill_could_leave(tmp_path):
    features = row_features("computed", tmp_path, in_memory=False)
    assert list(tmp_path.iterdir()) == []
    x, _ = features.read(0)
    del features
    gc.collect()
    assert np.isfinite(x).all()


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    class Full(BytesIO):
        def write(self, _):
            raise OSError(errno.ENOSPC, "No space left on device")

    some, geometry = chain("computed", tmp_path)
    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(DiskError, match=f"disk full at {re.escape(str(tmp_path))}"):
        gathered(some, tmp_path, Alignment(geometry), False)


def test_no_rows_at_all(tmp_path):
    some, _ = chain("computed", tmp_path)
    far = Alignment(Geometry((Layer(10**6, 1),)))
    for in_memory in (True, False):
        assert gathered(some, tmp_path, far, in_memory).shape == (0, 6)


def test_labels_of_the_other_kind_are_refused(tmp_path):
    some, geometry = chain("computed", tmp_path)
    with pytest.raises(DataError, match="one class per frame: a probe on it cannot have `pool`"):
        dataset().item_labels("phone")
    with pytest.raises(DataError, match='one class per item: a probe on it needs `pool = "mean"`'):
        RowFeatures(some, dataset(), "speaker", Alignment(geometry), None)


def test_a_signal_stops_gathering(tmp_path):
    stop = Stop()
    stop.signal = 2
    with pytest.raises(Interrupted, match="1 of 6 items were read; probes of rows start again"):
        row_features("computed", tmp_path, stop=stop)
