"""A data set of any size that takes no room: items of noise, made when they are read."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from stagewise.datasets.base import Dataset


class Noise(Dataset):
    """`items` recordings of `seconds`, 16 kHz; the last fifth is the test split."""

    sample_rate = 16_000
    channels = 1
    bad = ()
    labels: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, items: int, seconds: float) -> None:
        self.lengths = np.full(items, round(seconds * self.sample_rate))
        self.keys = [f"noise-{item}" for item in range(items)]
        self.digest = hashlib.sha256(repr((items, seconds)).encode()).hexdigest()
        self.block = np.random.default_rng(0).standard_normal((1, 2**20), np.float32)

    def read(self, item: int, start: int, stop: int) -> npt.NDArray[np.float32]:
        shift = item * 7919
        places = np.arange(start + shift, stop + shift) % self.block.shape[1]
        return self.block[:, places]

    def split(self, name: str) -> npt.NDArray[np.int64]:
        fifth = max(1, len(self) // 5)
        return np.arange(len(self) - fifth) if name == "train" else np.arange(len(self) - fifth, len(self))

    def fingerprint(self) -> str:
        return self.digest
