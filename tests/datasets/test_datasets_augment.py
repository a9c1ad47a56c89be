"""Random crops: really patches of a crop of the image, anywhere in it, mirrored half of the time, and drawn again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_examples import naive_patches, picture

from stagewise.datasets.augment import centre_crop, patches, random_crop
from stagewise.datasets.image_files import Preprocessing


def places(pixels_HWC, crop_HWC):
    """Every (top, left, mirrored) at which a crop lies in an image, by looking everywhere."""
    size = len(crop_HWC)
    height, width, _ = pixels_HWC.shape
    return [
        (top, left, mirrored)
        for mirrored, wanted in ((False, crop_HWC), (True, crop_HWC[:, ::-1]))
        for top in range(height - size + 1)
        for left in range(width - size + 1)
        if np.array_equal(pixels_HWC[top : top + size, left : left + size], wanted)
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 20), st.integers(8, 20), st.booleans(), st.booleans(), st.integers(0, 2**63 - 1))
def test_crops_are_crops(height, width, grayscale, flip, seed):
    how = Preprocessing(patch=4, stride=2, crop=8, grayscale=grayscale, flip=flip)
    pixels = picture(0, height, width, how.channels)
    before = pixels.copy()
    crop = random_crop(pixels, how, 5, seed)
    (place,) = places(pixels, crop)
    assert flip or not place[2]
    np.testing.assert_array_equal(random_crop(pixels, how, 5, seed), crop)
    np.testing.assert_array_equal(pixels, before)
    rows = patches(crop, how)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, naive_patches(crop, 4, 2, how.means, how.stds), atol=2e-6)


def test_every_place_is_as_likely_and_half_are_mirrored():
    how = Preprocessing(patch=8, crop=8)
    pixels = picture(1, 10, 11, 1)
    drawn = [places(pixels, random_crop(pixels, how, 0, seed))[0] for seed in range(4800)]
    counts = np.unique(drawn, axis=0, return_counts=True)[1]
    assert len(counts) == 3 * 4 * 2
    # 200 of each are expected, and their deviation is 13.8.
    assert counts.min() > 200 - 5 * 13.8
    assert counts.max() < 200 + 5 * 13.8


def test_items_and_seeds_draw_apart():
    how = Preprocessing(patch=8, crop=8)
    pixels = picture(2, 60, 60, 1)
    drawn = {places(pixels, random_crop(pixels, how, item, seed))[0] for item in range(5) for seed in range(5)}
    assert len(drawn) > 20


def test_torch_s_global_generator_is_left_alone():
    before = torch.get_rng_state()
    random_crop(picture(3), Preprocessing(patch=8, crop=8), 0, 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("height", "width", "top", "left"), [(96, 96, 16, 16), (64, 65, 0, 0), (67, 80, 2, 8)])
def test_the_centre_is_torchvision_s(height, width, top, left):
    pixels = picture(4, height, width)
    np.testing.assert_array_equal(centre_crop(pixels, Preprocessing()), pixels[top : top + 64, left : left + 64])
