"""A pipeline of images that runs in a second: 24 images of noise, two stages of a few channels on 4 × 4 patches."""

import hashlib
from pathlib import Path

import numpy as np

from stagewise.datasets.image_files import Preprocessing
from stagewise.datasets.images import TEST, TRAIN, UNLABELLED, Images
from stagewise.datasets.labels import ItemLabels

TOML = """\
format = 1
[pipeline]
name = "tiny-images"
[data]
target = "tiny_images:TinyImages"
validation = 0.2
[defaults.train]
epochs = 2
batch_size = 4
precision = "float32"
optimizer = { target = "torch.optim:Adam", lr = 1e-3 }
[defaults.objective]
target = "infonce-grid"
steps = 2
negatives = 3
[defaults.store]
dtype = "float32"
[[stage]]
name = "one"
encoder = { target = "resnet", in_channels = 1, planes = 2, blocks = 1, stem = 3 }
store = { write = true }
[[stage]]
name = "two"
encoder = { target = "resnet", in_channels = 8, planes = 3, blocks = 1, stride = 2 }
[[probe]]
name = "class"
stages = ["two"]
labels = "class"
pool = "mean"
epochs = 2
"""


class TinyImages(Images):
    """Coarse noise and fine noise; every third image is for testing, the last `unlabelled` have no label."""

    def __init__(
        self, images: int = 24, size: int = 24, unlabelled: int = 0, seed: int = 0, views: int = 1, patch: int = 8
    ) -> None:
        rng = np.random.default_rng(seed)
        kinds = rng.integers(0, 2, images)
        self.pixels = [rng.integers(0, 256, (size, size, 1), np.uint8) for _ in range(images)]
        for pixels, kind in zip(self.pixels, kinds, strict=True):
            if kind:
                pixels[1::2] = pixels[::2]
        parts = np.where(np.arange(images) % 3 == 2, TEST, TRAIN).astype(np.int8)
        parts[images - unlabelled :], kinds[images - unlabelled :] = UNLABELLED, -1
        content = hashlib.sha256(b"".join(pixels.tobytes() for pixels in self.pixels)).digest()
        super().__init__(
            [f"image-{number}" for number in range(images)],
            np.full((images, 2), size),
            parts,
            ItemLabels(kinds, ["fine", "coarse"]),
            Preprocessing(patch=patch, stride=4, crop=20, views=views),
            content,
        )

    def _pixels(self, image):
        return self.pixels[image].copy()


def write_pipeline(folder: Path, text: str = TOML) -> Path:
    path = folder / "tiny-images.toml"
    path.write_text(text)
    return path
