"""Splits by lists name what does not fit; splits by hash are stable and touch every group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagewise.datasets.labels import hash_split, read_split_lists
from stagewise.datasets.names import Names
from stagewise.errors import ConfigError, DataError

NAMES = Names(["a.wav", "b c.wav", "d.wav"])


def lists(tmp_path, train, test):
    (tmp_path / "train.txt").write_bytes(train.encode())
    (tmp_path / "test.txt").write_bytes(test.encode())
    return {name: str(tmp_path / f"{name}.txt") for name in ("train", "test")}


def test_reads_two_lists(tmp_path):
    splits = lists(tmp_path, "\ufeffd\r\n\r\nb c\r\nd\r\n", "a")
    assert read_split_lists(splits, NAMES) == {"train": {1, 2}, "test": {0}}


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (
            "a\nx\ny\n",
            "d",
            r"train.txt:2: 2 lines name no file: x, y: set data.root .* or correct data.splits",
        ),
        ("a\n", "d\na\n", "test.txt:2: a is also in the train list: delete one"),
        ("\n", "d", "train.txt lists no keys: write one key a line"),
        ("a", "", "test.txt lists no keys"),
    ],
)
def test_errors_name_the_line(tmp_path, train, test, message):
    with pytest.raises(DataError, match=message):
        read_split_lists(lists(tmp_path, train, test), NAMES)


@pytest.mark.parametrize("splits", [{"train": "x"}, {"train": "x", "test": "y", "dev": "z"}, "train.txt"])
def test_both_lists_are_needed(splits):
    with pytest.raises(ConfigError, match="splits must name two files"):
        read_split_lists(splits, NAMES)


def test_a_missing_list(tmp_path):
    with pytest.raises(DataError, match=r"cannot read .*none.txt \(No such file or directory\): check the path"):
        read_split_lists({"train": str(tmp_path / "none.txt"), "test": "x"}, NAMES)


@given(
    groups=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    fraction=st.floats(0, 0.99),
    seed=st.randoms(use_true_random=False),
)
def test_hash_split_touches_every_group_and_ignores_order(groups, fraction, seed):
    keys = [f"key-{number}" for number in range(len(groups))]
    is_test = hash_split(keys, groups, fraction)
    for group in set(groups):
        members = [item for item, other in enumerate(groups) if other == group]
        if len(members) >= 2 and fraction > 0:
            count = int(is_test[members].sum())
            assert 1 <= count < len(members)
            assert abs(count - fraction * len(members)) <= 1
    order = list(range(len(keys)))
    seed.shuffle(order)
    shuffled = hash_split([keys[item] for item in order], [groups[item] for item in order], fraction)
    np.testing.assert_array_equal(shuffled, is_test[order])


def test_no_test_items_if_none_are_wanted():
    assert not hash_split(["a", "b"], [0, 0], 0.0).any()


def test_what_is_alone_in_its_class_is_trained_on():
    groups = [0] * 10 + [1] * 10 + list(range(2, 12))
    is_test = hash_split([str(number) for number in range(30)], groups, 0.5)
    assert [is_test[:10].sum(), is_test[10:20].sum(), is_test[20:].sum()] == [5, 5, 0]


def test_where_all_are_alone_their_classes_say_nothing():
    is_test = hash_split([str(number) for number in range(250)], list(range(250)), 0.2)
    assert is_test.sum() == 50
    assert not hash_split(["a"], [0], 0.9).any()
