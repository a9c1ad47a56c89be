"""The digits that need no download."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from stagewise.datasets.digits import Digits
from stagewise.errors import ConfigError


@pytest.fixture(scope="module")
def data():
    return Digits()


def test_sizes_and_splits(data):
    assert len(data) == 1797
    assert data.crop == (7, 7)
    assert (data.channels, data.views, data.sample_rate) == (1, 1, 0)
    assert data.label_classes("class") == list("0123456789")
    train, test = data.split("train"), data.split("test")
    assert sorted([*train, *test]) == list(range(1797))
    assert data.pool().tolist() == train.tolist()
    assert np.bincount(data.item_labels("class")[test]).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    assert data.split("test").tolist() == Digits(size=48).split("test").tolist()


def test_pixels_are_the_published_ones_enlarged(data):
    published = load_digits()
    np.testing.assert_array_equal(data.item_labels("class"), published.target)
    size = data.image(0).shape[0]
    factor = size / 8
    weights = np.zeros((size, 8))
    for row in range(size):
        place = (row + 0.5) / factor - 0.5
        near = np.clip(1 - np.abs(np.arange(8) - place), 0, None)
        weights[row] = near / near.sum()
    for item in range(0, 1797, 100):
        expected = weights @ (published.images[item] * 255 / 16) @ weights.T
        np.testing.assert_allclose(data.image(item)[:, :, 0], expected, atol=1.6)


def test_the_defaults_standardise(data):
    rows = np.stack([data.read(item, 0, int(data.lengths[item]))[0] for item in range(0, 1797, 10)])
    pixels = np.stack([data.image(item) for item in range(1797)]) / 255
    assert data.mean == pytest.approx(pixels.mean(), abs=1e-3)
    assert data.std == pytest.approx(pixels.std(), abs=1e-3)
    assert rows.dtype == np.float32


def test_digits_are_never_mirrored():
    data = Digits(size=32, crop=32)
    whole = data.read(7, 0, int(data.lengths[7]))
    assert data.crop == tuple(data.grids[7])
    for seed in range(20):
        np.testing.assert_array_equal(data.augmented(7, seed), whole)


def test_fingerprints(data):
    assert Digits().fingerprint() == data.fingerprint()
    for change in ({"size": 48}, {"test_fraction": 0.3}, {"stride": 8}, {"mean": 0.0}):
        assert Digits(**change).fingerprint() != data.fingerprint()


def test_arguments_out_of_range():
    with pytest.raises(ConfigError, match=r"data.size is 24: set it to a whole number of data.crop, 32, or more"):
        Digits(size=24, crop=32)
    with pytest.raises(ConfigError, match=r"data.test_fraction is 1"):
        Digits(test_fraction=1)
