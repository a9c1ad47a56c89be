"""Small handwritten digits that come with scikit-learn: images to try a pipeline on, without a download.

Shape suffixes: N images, H × W pixels.
"""

from __future__ import annotations

import hashlib

import numpy as np
from PIL import Image

from stagewise.datasets.image_files import Numbers, Pixels, Preprocessing, pixels_of
from stagewise.datasets.images import TEST, Images
from stagewise.datasets.labels import TEST_FRACTION, ItemLabels, hash_split
from stagewise.errors import ConfigError
from stagewise.libraries import load

BRIGHTEST = 16  # in the data
MEAN, STD = 0.3053, 0.3271  # of the pixels at the default size


class Digits(Images):
    """1,797 grayscale digits of 8 × 8 pixels [1], enlarged, with the label `class`; they are never mirrored.

    [1] Alpaydin and Kaynak 1998, "Optical recognition of handwritten digits", UCI machine learning repository.

    Args:
        size: pixels of a side that they are enlarged to, bilinearly.
        test_fraction: fraction of every class for testing.
        patch: pixels of a patch's side; 0 makes one row of an image, its crop.
        stride: pixels from one patch to the next.
        crop: pixels of a training crop's side.
        mean: subtracted from pixels in [0, 1].
        std: divides them.

    Raises:
        ConfigError: an argument is out of range.
    """

    def __init__(
        self,
        size: int = 40,
        test_fraction: float = TEST_FRACTION,
        patch: int = 8,
        stride: int = 4,
        crop: int = 32,
        mean: Numbers = MEAN,
        std: Numbers = STD,
    ) -> None:
        how = Preprocessing(patch, stride, crop, grayscale=True, mean=mean, std=std, flip=False)
        if type(size) is not int or size < how.crop:
            raise ConfigError(f"data.size is {size!r}: set it to a whole number of data.crop, {how.crop}, or more.")
        if not 0 <= test_fraction < 1:
            raise ConfigError(f"data.test_fraction is {test_fraction}: set it to 0 or more and less than 1.")
        published = load("sklearn.datasets").load_digits()
        self._size = size
        self._digits_NHW = np.rint(published.images * (255 / BRIGHTEST)).astype(np.uint8)
        names = [f"{number:04d}" for number in range(len(self._digits_NHW))]
        classes = ItemLabels(published.target.astype(np.int64), [str(name) for name in published.target_names])
        is_test_N = hash_split(names, classes.classes.tolist(), test_fraction)
        content = hashlib.sha256(self._digits_NHW.tobytes()).digest()
        super().__init__(
            names, np.full((len(names), 2), size), (is_test_N * TEST).astype(np.int8), classes, how, content
        )

    def _pixels(self, image: int) -> Pixels:
        small = Image.fromarray(self._digits_NHW[image])
        return pixels_of(small.resize((self._size, self._size), Image.Resampling.BILINEAR))
