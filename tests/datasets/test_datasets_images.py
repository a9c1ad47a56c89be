"""Images as rows of patches: the cut, slices, centres, views, parts and fingerprints, on pixels made on the spot."""

from __future__ import annotations

import copy
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_examples import naive_patches, picture

from stagewise.datasets.image_files import Preprocessing
from stagewise.datasets.images import TEST, TRAIN, UNLABELLED, Images
from stagewise.datasets.labels import ItemLabels
from stagewise.errors import ConfigError

SIZES = [(16, 16), (40, 48), (33, 90), (64, 17)]


class Made(Images):
    """Images of noise, one of each size."""

    def __init__(self, sizes=SIZES, parts=None, content=b"noise", names="abcdefgh", **options):
        self.how = Preprocessing(**options)
        parts = np.array(parts or [TRAIN] * len(sizes), np.int8)
        classes = ItemLabels.from_names(["" if part == UNLABELLED else "xyz"[n % 3] for n, part in enumerate(parts)])
        super().__init__(list(names[: len(sizes)]), np.array(sizes), parts, classes, self.how, content)

    def _pixels(self, image):
        return picture(image, *self._sizes_N2[image], self.channels)


def test_importing_does_not_import_torch():
    code = (
        "import sys, stagewise.datasets.images, stagewise.datasets.image_folder, stagewise.datasets.stl10, "
        "stagewise.datasets.digits; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_paper_s_grids():
    how = Preprocessing()
    assert how.grid(64, 64) == (7, 7)
    assert how.grid(96, 96) == (11, 11)
    data = Made([(96, 96), (64, 200)])
    assert data.crop == (7, 7)
    assert data.grids.tolist() == [[11, 11], [7, 24]]
    assert data.lengths.tolist() == [121, 168]
    assert (data.lengths.dtype, data.grids.dtype) == (np.int64, np.int64)
    assert data.row_shape == (1, 16, 16)
    assert (data.mean, data.std, data.sample_rate, data.views) == (0.4120, 0.2570, 0, 1)
    assert data.bad == []


@pytest.mark.parametrize("grayscale", [True, False])
@pytest.mark.parametrize(("patch", "stride"), [(16, 8), (8, 8), (5, 3), (16, 32)])
def test_rows_are_the_patches_in_raster_order(grayscale, patch, stride):
    data = Made(patch=patch, stride=stride, crop=patch, grayscale=grayscale)
    for item in range(len(data)):
        expected = naive_patches(data.image(item), patch, stride, data.mean, data.std)
        rows = data.read(item, 0, int(data.lengths[item]))
        assert rows.dtype == np.float32
        assert rows.shape == (data.channels, data.lengths[item], patch, patch)
        np.testing.assert_allclose(rows, expected, atol=2e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_slice_is_that_of_the_whole(draw):
    views = draw.draw(st.sampled_from([1, 2]))
    data = Made(patch=6, stride=draw.draw(st.integers(1, 7)), crop=6, views=views, grayscale=draw.draw(st.booleans()))
    item = draw.draw(st.integers(0, len(data) - 1))
    length = int(data.lengths[item])
    start = draw.draw(st.integers(0, length))
    stop = draw.draw(st.integers(start, length))
    part = data.read(item, start, stop)
    assert part.shape == (data.channels, stop - start, 6, 6)
    np.testing.assert_array_equal(part, data.read(item, 0, length)[:, start:stop])


def test_slices_that_are_none():
    data = Made(crop=16)
    for start, stop in ((-1, 1), (3, 2), (0, int(data.lengths[1]) + 1)):
        with pytest.raises(IndexError, match="item 1 has 20 patches, not"):
            data.read(1, start, stop)


def test_without_patches_a_row_is_the_centre():
    data = Made([(40, 48), (33, 40)], patch=0, crop=32)
    assert data.row_shape == (1, 32, 32)
    assert data.grids.tolist() == [[1, 1], [1, 1]]
    assert data.crop == (1, 1)
    assert data.centre(0).tolist() == [0]
    centre = data.image(0)[4:36, 8:40]
    np.testing.assert_allclose(data.read(0, 0, 1), naive_patches(centre, 32, 1, data.mean, data.std), atol=2e-6)
    assert data.augmented(1, 0).shape == (1, 1, 32, 32)
    problem = "32 × 31 pixels hold no row of 32 × 32: lower data.crop, or set data.size to enlarge it"
    assert Preprocessing(patch=0, crop=32).problem(32, 31) == problem
    assert Preprocessing(patch=0, crop=32).problem(32, 32) is None


def test_mirror_images_are_items():
    plain, both = Made(crop=16, grayscale=False), Made(crop=16, grayscale=False, views=2)
    assert list(both.keys) == ["a", "a#flip", "b", "b#flip", "c", "c#flip", "d", "d#flip"]
    assert both.lengths.tolist() == np.repeat(plain.lengths, 2).tolist()
    assert both.item_labels("class").tolist() == [0, 0, 1, 1, 2, 2, 0, 0]
    for item in range(len(plain)):
        length = int(plain.lengths[item])
        np.testing.assert_array_equal(both.read(2 * item, 0, length), plain.read(item, 0, length))
        np.testing.assert_array_equal(both.image(2 * item + 1), plain.image(item)[:, ::-1])
        mirrored = naive_patches(plain.image(item)[:, ::-1], 16, 8, plain.mean, plain.std)
        np.testing.assert_allclose(both.read(2 * item + 1, 0, length), mirrored, atol=2e-6)


def test_splits_name_every_example_once():
    parts = [TRAIN, TEST, UNLABELLED, TRAIN]
    for views in (1, 2):
        data = Made(parts=parts, crop=16, views=views)
        assert data.split("train").tolist() == [0, 3 * views]
        assert data.split("test").tolist() == [views]
        assert data.pool().tolist() == [0, 2 * views, 3 * views]
        assert data.split("train").dtype == data.pool().dtype == np.int64
        assert data.item_labels("class")[2 * views] == -1


@pytest.mark.parametrize("sides", [(96, 96), (70, 64), (64, 71), (97, 79), (88, 200), (95, 65)])
def test_the_centre_is_the_crop_closest_to_it(sides):
    data = Made([sides])
    rows = data.centre(0)
    assert rows.dtype == np.int64
    rows_R, columns_S = np.divmod(rows.reshape(data.crop), data.grids[0, 1])
    for places, side, there in ((rows_R[:, 0], sides[0], data.grids[0, 0]), (columns_S[0], sides[1], data.grids[0, 1])):
        assert places.tolist() == list(range(places[0], places[0] + 7))
        off = [abs(first * 8 - (side - 64) / 2) for first in range(there - 7 + 1)]
        assert off[places[0]] == min(off)
    assert (rows_R == rows_R[:, :1]).all()
    assert (columns_S == columns_S[:1]).all()
    whole = data.read(0, 0, int(data.lengths[0]))
    top, left = rows_R[0, 0] * 8, columns_S[0, 0] * 8
    crop = data.image(0)[top : top + 64, left : left + 64]
    np.testing.assert_allclose(whole[:, rows], naive_patches(crop, 16, 8, data.mean, data.std), atol=2e-6)


def test_the_centre_of_what_is_smaller_than_a_crop():
    data = Made([(40, 96)])
    rows, columns = np.divmod(data.centre(0), 11)
    assert sorted(set(rows.tolist())) == [0, 1, 2, 3]
    assert sorted(set(columns.tolist())) == [2, 3, 4, 5, 6, 7, 8]
    with pytest.raises(IndexError, match="item 0 is smaller than a training crop"):
        data.augmented(0, 0)


CHANGES = [
    {"patch": 24},
    {"stride": 4},
    {"crop": 32},
    {"grayscale": False},
    {"mean": 0.5},
    {"std": 0.5},
    {"flip": False},
    {"views": 2},
    {"content": b"other noise"},
    {"parts": [TRAIN, TRAIN, TEST, TRAIN]},
    {"sizes": [(16, 17), *SIZES[1:]]},
    {"names": "abce"},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_fingerprints_follow_what_changes_training(change):
    data = Made(crop=16) if change != {"patch": 24} else Made(crop=40)
    other = Made(**({"crop": 40 if change == {"patch": 24} else 16} | change))
    assert other.fingerprint() != data.fingerprint()


def test_fingerprints_do_not_follow_what_does_not():
    data = Made(crop=16)
    assert Made(crop=16, mean=0.4120, std=[0.2570]).fingerprint() == data.fingerprint()
    renamed = Made(crop=16)
    renamed.labels = {"class": ItemLabels.from_names(["q"] * 4)}
    assert renamed.fingerprint() == data.fingerprint()
    assert renamed.label_fingerprint("class") != data.label_fingerprint("class")


def test_it_travels_and_serves_several_threads():
    data = Made([(40, 48)] * 8, patch=8, crop=24)
    twin = copy.deepcopy(data)
    assert twin.fingerprint() == data.fingerprint()
    alone = [data.augmented(item, 1) for item in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for item, crop in enumerate(pool.map(lambda number: twin.augmented(number % 8, 1), range(64))):
            np.testing.assert_array_equal(crop, alone[item % 8])


def test_one_mean_for_all_colours_or_one_each():
    assert Preprocessing(grayscale=False).means == [0.485, 0.456, 0.406]
    assert Preprocessing(grayscale=False, mean=0.5).means == [0.5, 0.5, 0.5]
    data = Made(grayscale=False, mean=[0.1, 0.2, 0.3], std=1, crop=16)
    assert (data.mean, data.std) == ([0.1, 0.2, 0.3], [1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": -1}, "data.patch is -1: set it to a whole number of 0 or more"),
        ({"patch": 16.0}, "data.patch is 16.0"),
        ({"stride": 0}, "data.stride is 0: set it to a whole number of 1 or more"),
        ({"crop": True}, "data.crop is True"),
        ({"crop": 70}, "data.crop is 70: patches of 16 pixels every 8 do not fill it; set it to 64 or 72"),
        ({"crop": 69}, "set it to 64 or 72"),
        ({"crop": 67}, "set it to 64"),
        ({"crop": 8}, "data.crop is 8: .*set it to 16"),
        ({"views": 3}, "data.views is 3: set it to 1, or to 2 with data.flip = true"),
        ({"views": 2, "flip": False}, "data.views is 2"),
        ({"std": 0}, "data.std is 0: set it to finite numbers above 0"),
        ({"mean": [0.1, 0.2]}, r"data.mean is \[0.1, 0.2\]: set it to one number, or to 1 in a list"),
        ({"mean": "dark"}, "data.mean is 'dark'"),
        ({"grayscale": False, "std": [0.1, 0.2]}, "set it to one number, or to 3 in a list"),
        ({"mean": float("nan")}, "data.mean is nan"),
        ({"views": True}, "data.views is True: set it to 1"),
        ({"flip": "no"}, "data.flip is 'no': set it to true or false"),
        ({"grayscale": 1}, "data.grayscale is 1: set it to true or false"),
    ],
)
def test_arguments_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        Preprocessing(**options)
