"""Frozen stages as one module, from the raw input to the representation of the topmost."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stagewise.config import from_json
from stagewise.modules.geometry import Geometry
from stagewise.modules.stage_module import StageModule
from stagewise.planning.build import build_stages
from stagewise.stage import load_weights


class FrozenEncoder(nn.Module):
    """x (B, C, T), standardised as the stages were trained on, → representation (B, D, rows).

    Attributes:
        hop: input samples between neighbouring rows.
        receptive_field: input samples that one row sees (a recurrent stage sees all before it, too).
        first: the first sample that row 0 sees; negative in the padding.
        sample_rate: samples per second of the input.
        mean, std: of the standardisation: x = (samples - mean) / std.
    """

    def __init__(self, stages: Sequence[StageModule], sample_rate: int, mean: float, std: float) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        geometry = sum((stage.geometry for stage in stages), Geometry())
        self.hop, self.receptive_field, self.first = geometry.hop, geometry.receptive_field, geometry.first
        self.sample_rate, self.mean, self.std = sample_rate, mean, std
        self.requires_grad_(False)
        self.eval()

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Return the representation, float32."""
        for stage in self.stages:
            x_BCT = stage(x_BCT)[1]
        return x_BCT.float()


def load_encoder(locked: dict[str, Any], folders: Sequence[Path], name: str) -> FrozenEncoder:
    """Build the stages of a lock file and give them their frozen weights."""
    content = copy.deepcopy(locked["pipeline"])
    for stage, facts in zip(content["stage"], locked["stages"], strict=True):
        stage["train"]["precision"] = facts["precision"]  # as it was resolved where the stage was trained
    x = locked["input"]
    built = build_stages(from_json(content, name), x["channels"], torch.device("cpu"))
    modules = [load_weights(stage.module, folder) for stage, folder in zip(built, folders, strict=False)]
    return FrozenEncoder(modules, x["sample_rate"], x["mean"], x["std"])
