"""Folders of recordings and of images made on the spot, pipelines that train on them, and commands typed."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from PIL import Image

from stagewise.cli.main import main

RATE = 16000
HEAD = """\
format = 1
[pipeline]
name = "files"
[defaults.train]
epochs = 1
batch_size = 4
precision = "float32"
[defaults.store]
write = true
dtype = "float32"
[[stage]]
name = "one"
"""
AUDIO = (
    HEAD
    + """\
encoder = { target = "conv1d", in_channels = 1, out_channels = 4, kernel_size = 10, stride = 5, padding = 2 }
objective = { steps = 2, negatives = 4, window = 16 }
[data]
target = "audio-folder"
root = "data"
"""
)
IMAGES = (
    HEAD
    + """\
encoder = { target = "resnet", in_channels = 1, planes = 2, blocks = 1, stem = 3 }
objective = { target = "infonce-grid", steps = 2, negatives = 3 }
[data]
target = "image-folder"
root = "data"
patch = 8
stride = 4
crop = 20
"""
)


@pytest.fixture(name="data")
def data_folder(tmp_path, monkeypatch, no_peaks_here):
    """An empty folder `data` of the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def stagewise_says(*line):
    """Type a command; nothing it says may be unforeseen."""
    result = CliRunner().invoke(main, [str(word) for word in line])
    assert "unforeseen" not in result.stderr
    assert "Traceback" not in result.stderr
    return result.exit_code, result.stderr


def run(text, *sets, verb=("run", "--run", "run")):
    Path("x.toml").write_text(text)
    return stagewise_says(verb[0], "x.toml", *verb[1:], *(word for pair in sets for word in ("--set", pair)))


def noise(samples=1000, channels=1, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, (samples, channels)).astype(np.float32)


def wav(path, samples=1000, rate=RATE, channels=1, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(samples, channels, seed), rate, **options)
    return path


def pixels(side=24, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def picture(path, side=24, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels(side, seed).save(path)
    return path


MAKE = {"audio": (AUDIO, ".wav", wav), "image": (IMAGES, ".png", picture)}


def state(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in [folder, *folder.rglob("*")]}
