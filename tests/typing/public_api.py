"""What the public names give, as a type checker sees it: read by mypy with the rest, and never run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, assert_type

import numpy as np
import numpy.typing as npt
import torch

import stagewise
from stagewise.datasets.base import Dataset
from stagewise.frozen.encoder import FrozenEncoder
from stagewise.frozen.open import Run
from stagewise.modules import GRU, Conv1d
from stagewise.objectives import InfoNCE, Score

assert_type(stagewise.__version__, str)

run = stagewise.open("runs/quickstart")
assert_type(run, Run)
assert_type(stagewise.open(Path("runs/quickstart")), Run)
assert_type(run.facts, dict[str, Any])
assert_type(run.stages["context"].store[17], npt.NDArray[np.float32])
assert_type(run.encoder("context"), FrozenEncoder)

assert_type(stagewise.run("pipelines/quickstart.toml", run="runs/x", set={"pipeline.seed": 1}), dict[str, Any])

encoder = stagewise.load("encoder")
assert_type(encoder, FrozenEncoder)
assert_type(encoder.hop, int)
assert_type(encoder.receptive_field, int)
assert_type(encoder.embed("talk.flac"), npt.NDArray[np.float32])
stagewise.export(encoder, "tuned")

loss = InfoNCE(z_channels=8, c_channels=8, steps=3, negatives=4)
assert_type(loss.forward(torch.zeros(2, 8, 16), torch.zeros(2, 8, 16)), Score)
layers: list[torch.nn.Module] = [Conv1d(1, 8, 10, 5, 2), GRU(8, 6)]


class Mine(Dataset):
    """A data set of one's own."""


own: type[Dataset] = Mine
