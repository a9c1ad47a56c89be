"""A pipeline that runs in a second: twelve short items of coloured noise, three stages of eight channels."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from small_data import InMemory, phones, speakers

from stagewise.modules import Conv1d

TOML = """\
format = 1
[pipeline]
name = "tiny"
[data]
target = "tiny:TinySpeech"
validation = 0.2
[defaults.train]
epochs = 2
batch_size = 4
precision = "float32"
optimizer = { target = "torch.optim:Adam", lr = 1e-3 }
[defaults.objective]
steps = 3
negatives = 4
window = 16
[[stage]]
name = "one"
encoder = { target = "conv1d", in_channels = 1, out_channels = 8, kernel_size = 10, stride = 5, padding = 2 }
[[stage]]
name = "two"
encoder = { target = "conv1d", in_channels = 8, out_channels = 8, kernel_size = [8, 4], stride = [4, 2], padding = 2 }
store = { write = true }
[[stage]]
name = "context"
context = { target = "gru", input_size = 8, hidden_size = 6 }
[[probe]]
name = "speaker"
stages = "all"
labels = "speaker"
pool = "mean"
epochs = 3
[[probe]]
name = "phones"
stages = ["context"]
labels = "phones"
epochs = 2
"""


class TinySpeech(InMemory):
    """Two speakers whose noise has another colour; `bad` puts a NaN into an item."""

    def __init__(self, items: int = 12, seconds: float = 0.2, seed: int = 0, bad: int = -1) -> None:
        rng = np.random.default_rng(seed)
        lengths = rng.integers(int(12000 * seconds), int(20000 * seconds), items)
        voices = np.arange(items) // 2 % 2
        super().__init__(lengths, labels={"speaker": speakers(voices), "phones": phones(lengths, seed=seed)}, seed=seed)
        for item, voice in enumerate(voices):
            noise = self.arrays[item]
            self.arrays[item] = (noise if voice else np.cumsum(noise, 1) / 8 % 2 - 1).astype(np.float32)
        if bad >= 0:
            self.arrays[bad][:] = np.nan
        self.digest = hashlib.sha256(repr((items, seconds, seed, bad)).encode()).hexdigest()

    def fingerprint(self):
        return self.digest


class Poisoned(Conv1d):
    """Gives NaN from its third call in training on."""

    calls = 0

    def forward(self, x):
        Poisoned.calls += self.training
        return super().forward(x) * (torch.nan if self.training and Poisoned.calls >= 3 else 1.0)


def write_pipeline(folder: Path, text: str = TOML) -> Path:
    path = folder / "tiny.toml"
    path.write_text(text)
    return path


def results(run: Path) -> dict[str, str]:
    """sha256 of every encoder, every file of every store, and every probe result."""
    wanted = ("encoder.safetensors", "probe.json", "probe.safetensors", "store.manifest.json")
    return {
        str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and (path.name in wanted or "store.zarr" in path.parts)
    }
