"""Classes of windows: of items as they are, of rows as a loop over label frames finds them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_data import InMemory, phones, speakers
from tiny_images import TinyImages

from stagewise.datasets.labels import FrameTable
from stagewise.errors import DataError
from stagewise.modules import Geometry, Layer
from stagewise.training.windows import Alignment, Classes

LENGTHS = [1900, 300, 4000, 0, 2500]  # two are too short for a label
GEOMETRY = Geometry((Layer(10, 5, 2, 2), Layer(8, 4, 2, 2)))


def speech(seed=0):
    labels = {"phones": phones(LENGTHS, seed=seed), "speaker": speakers([1, -1, 0, 1, -1])}
    return InMemory(LENGTHS, labels=labels)


def ints(*values):
    return np.array(values, np.int64)


def test_one_class_an_item():
    some = Classes(speech(), "speaker", GEOMETRY)
    assert some.per_item
    y_B = some.read(ints(2, 1, 0, 2), ints(0, 5, 7, 3), 20)
    assert (y_B.dtype, y_B.tolist()) == (torch.int64, [0, -1, 1, 0])
    assert some.known(ints(0, 1, 2, 4)).tolist() == [0, 2]
    assert some.known(ints()).tolist() == []


def test_images_have_one_class_each():
    data = TinyImages(8, unlabelled=2)
    some = Classes(data, "class", Geometry())
    assert some.per_item
    assert some.read(np.arange(8), np.zeros(8, np.int64), 16).tolist() == data.item_labels("class").tolist()
    assert some.known(np.arange(8)).tolist() == [0, 1, 2, 3, 4, 5]


layers = st.builds(Layer, st.integers(1, 40), st.integers(1, 300), st.integers(0, 20), st.just(0)).filter(
    lambda layer: layer.left < layer.kernel
)


@given(st.lists(layers, min_size=1, max_size=2), st.integers(0, 9), st.integers(1, 30), st.data())
@settings(deadline=None, max_examples=100)
def test_rows_get_the_class_of_the_frame_that_belongs_to_them(stack, seed, rows, data):
    dataset, geometry = speech(seed), Geometry(tuple(stack))
    some = Classes(dataset, "phones", geometry)
    assert not some.per_item
    items = data.draw(st.lists(st.sampled_from([0, 1, 2, 4]), min_size=1, max_size=4))
    first = data.draw(st.lists(st.integers(0, 60), min_size=len(items), max_size=len(items)))
    y_BT = some.read(ints(*items), ints(*first), rows)
    expected = torch.full((len(items), rows), -1)
    for number, (item, begin) in enumerate(zip(items, first, strict=True)):
        labels = dataset.frame_labels("phones", item)
        if labels is None:
            continue
        for frame, row in enumerate(Alignment(geometry).rows(labels).tolist()):
            # Of two known frames that share a row, the later one counts.
            if begin <= row < begin + rows and labels.classes[frame] >= 0:
                expected[number, row - begin] = int(labels.classes[frame])
    assert y_BT.dtype == torch.int64
    assert torch.equal(y_BT, expected)


def test_the_paper_s_hop_leaves_no_row_without_its_frame():
    geometry = Geometry((Layer(465, 160, 212, 212),))  # of the five layers together
    dataset = speech()
    labels = dataset.frame_labels("phones", 2).classes
    y_BT = Classes(dataset, "phones", geometry).read(ints(2, 2), ints(0, 3), 5)
    assert y_BT[0].tolist() == [-1, *labels[:4]]  # row i against label i - 1
    assert y_BT[1].tolist() == labels[2:7].tolist()


def test_unknown_is_minus_one():
    table = FrameTable(np.array([2, -1, 1], np.int16), ints(0, 3, 3), ["a", "b", "c"])
    some = Classes(InMemory([800, 800], labels={"phones": table}), "phones", Geometry((Layer(160, 160),)))
    assert some.known(ints(0, 1)).tolist() == [0]
    y_BT = some.read(ints(0, 1), ints(0, 0), 6)
    place = Alignment(some.alignment.geometry).rows(some.dataset.frame_labels("phones", 0)).tolist()
    assert [y_BT[0, row].item() for row in place] == [2, -1, 1]
    assert (y_BT[0] == -1).sum() == 4
    assert (y_BT[1] == -1).all()


def test_a_label_that_is_not_there():
    with pytest.raises(DataError, match="no label 'emotion'; it has: 'phones', 'speaker'"):
        Classes(speech(), "emotion", GEOMETRY)
