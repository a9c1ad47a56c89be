"""Runs on files, whose stores say what `embed` must give: float32 stores of noise as audio, and as images."""

import numpy as np
import soundfile
import tiny
import tiny_images
from PIL import Image

import stagewise
from stagewise.datasets.audio_folder import AudioFolder

RATE = 16_000
AUDIO = tiny.TOML.replace(
    'target = "tiny:TinySpeech"', 'target = "audio-folder"\nroot = "ROOT"\nlabels = { speaker = "folder" }'
).replace('pool = "mean"\nepochs = 3\n', 'pool = "mean"\nepochs = 0\n')
AUDIO = AUDIO[: AUDIO.index('[[probe]]\nname = "phones"')] + "[defaults.store]\n" + 'dtype = "float32"\nwrite = true\n'
IMAGES = tiny_images.TOML.replace(
    'target = "tiny_images:TinyImages"',
    'target = "image-folder"\nroot = "ROOT"\npatch = 8\nstride = 4\ncrop = 20\nsize = 24',
)


class Louder(AudioFolder):
    """A data set of one's own, which does more than the one it is made of."""

    def read(self, item, start, stop):
        return 3 * super().read(item, start, stop)


class Relabelled(AudioFolder):
    """A data set of one's own, which reads its files as the one it is made of."""

    def split(self, name):
        return super().split(name)[::-1]


def noise(seconds, seed=0, channels=1, rate=RATE):
    rng = np.random.default_rng(seed)
    return (0.1 * rng.standard_normal((int(seconds * rate), channels))).clip(-0.9, 0.9)


def audio_run(folder):
    """A finished run on eight files; what the next ones hold is up to the tests."""
    root = folder / "audio"
    for number in range(8):
        path = root / "ab"[number % 2] / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(0.2 + 0.03 * number, number), RATE, subtype="FLOAT")
    file = tiny.write_pipeline(folder, AUDIO.replace("ROOT", str(root)))
    stagewise.run(file, run=folder / "run", set={"defaults.train.epochs": 1, "pipeline.threads": 1})
    return root


def image_run(folder):
    """A finished run on twelve images of several sizes, whose short sides become 24 pixels."""
    root = folder / "images"
    rng = np.random.default_rng(0)
    for number in range(12):
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (30 + number, 40, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    file = tiny_images.write_pipeline(folder, IMAGES.replace("ROOT", str(root)))
    stagewise.run(file, run=folder / "run", set={"defaults.train.epochs": 1})
    return root
