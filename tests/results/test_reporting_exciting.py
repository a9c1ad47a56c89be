"""The rows that excite channels most, against sorting everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stagewise.results.neurons import exciting


def brute_force(items, channels, top):
    """Sort all rows of all items; items is a list of float32 (T, C)."""
    rows = np.concatenate(items).astype(np.float64)
    order = sorted(range(rows.shape[1]), key=lambda c: -rows[:, c].var())
    order = order[: max(channels, -(-len(order) // 2))]
    count = min(channels, len(order))
    chosen = [order[int(i * (len(order) - 1) / (count - 1))] if count > 1 else order[0] for i in range(count)]
    found = []
    for channel in chosen:
        everything = [(-row[channel], i, n) for i, item in enumerate(items) for n, row in enumerate(item)]
        best, seen = [], set()
        for value, item, row in sorted(everything):
            if item not in seen:
                seen.add(item)
                best.append((item, row, -value))
        found.append((channel, best[:top]))
    return found


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5))
def test_as_if_everything_were_sorted(seed, items, width, channels, top):
    rng = np.random.default_rng(seed)
    # Whole numbers, so that many are equal; a scale for each channel, so that no two variances are.
    scale = 1 + rng.permutation(width)
    data = [rng.integers(-3, 4, (rng.integers(0, 20), width)) * scale for _ in range(items)]
    data = [item.astype(np.float32) for item in data]

    def rows(item):
        cuts = np.sort(rng.integers(0, len(data[item]) + 1, 2))
        return iter([piece for piece in np.split(data[item], cuts) if len(piece)])

    found = exciting(rows, range(items), channels, top)
    if not sum(map(len, data)):
        assert found == []
        return
    got = [(n.channel, [(e.item, e.row, e.value) for e in n.examples]) for n in found]
    variances = np.concatenate(data).astype(np.float64).var(0)
    if len(set(variances.round(9).tolist())) == width:
        assert got == brute_force(data, channels, top)
    else:  # which of two channels that vary as much comes first is left open
        assert len({channel for channel, _ in got}) == min(channels, width)


def test_it_goes_over_the_items_once_and_keeps_little():
    asked = []

    def rows(item):
        asked.append(item)
        for start in range(0, 1000, 100):
            yield np.full((100, 3), item + start / 1e6, np.float32)

    found = exciting(rows, [5, 3, 9])
    assert asked == [5, 3, 9]
    assert [e.item for e in found[0].examples] == [9, 5, 3]
    assert {e.row for e in found[0].examples} == {900}


def test_channels_are_of_those_that_vary_most_and_evenly_among_them():
    spread = np.array([0.0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], np.float32)
    data = np.random.default_rng(0).standard_normal((4000, 1)).astype(np.float32) * spread
    assert [n.channel for n in exciting(lambda item: iter([data]), [0], channels=4)] == [15, 13, 11, 8]


def test_variance_holds_far_from_zero():
    data = np.array([[1e6, 1e6 + 3], [1e6, 1e6], [1e6, 1e6 + 3]], np.float32)
    (neuron,) = exciting(lambda item: iter([data[:1], data[1:]]), [0], channels=1)
    assert neuron.channel == 1
    assert neuron.examples[0].value == pytest.approx(1e6 + 3)
