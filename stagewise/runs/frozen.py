"""Frozen stages as one module, from the raw input to the representation of the topmost."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stagewise.config import from_json
from stagewise.inputs import load_weights
from stagewise.modules.geometry import Geometry
from stagewise.modules.patch_stage import means
from stagewise.modules.patches import cut_patches
from stagewise.modules.stage_module import StageModule
from stagewise.planning.build import build_module


class FrozenEncoder(nn.Module):
    """x (B, C, T), standardised as the stages were trained on, → representation (B, D, rows).

    Attributes:
        hop: input samples between neighbouring rows.
        receptive_field: input samples that one row sees (a recurrent stage sees all before it, too).
        first: the first sample that row 0 sees; negative in the padding.
        sample_rate: samples per second of the input.
        mean, std: of the standardisation: x = (samples - mean) / std.
        channels: D.
    """

    def __init__(self, stages: Sequence[StageModule], facts: dict[str, Any]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        geometry = sum((stage.geometry for stage in stages), Geometry())
        self.hop, self.receptive_field, self.first = geometry.hop, geometry.receptive_field, geometry.first
        self.sample_rate, self.mean, self.std = facts["sample_rate"], facts["mean"], facts["std"]
        self.channels = stages[-1].out_channels
        self.requires_grad_(False)
        self.eval()

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Return the representation, float32."""
        for stage in self.stages:
            x_BCT = stage(x_BCT)[1]
        return x_BCT.float()


class FrozenPatches(FrozenEncoder):
    """x (B, C, H, W), standardised as the stages were trained on, → the mean of every patch (B, D, R, S).

    An image that is one patch alone gives its map (B, D, H', W').

    Attributes:
        hop: pixels between neighbouring patches.
        receptive_field: pixels that a patch is high and wide; 0 for the whole image.
    """

    def __init__(self, stages: Sequence[StageModule], facts: dict[str, Any]) -> None:
        super().__init__(stages, facts)
        self.hop, self.receptive_field, self.first = facts["stride"], facts["patch"], 0

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the representation, float32."""
        if not self.receptive_field:
            return super().forward(x_BCHW[:, :, None])[:, :, 0]
        patches_BRSCPP = cut_patches(x_BCHW, self.receptive_field, self.hop)
        z_BDT = means(super().forward(patches_BRSCPP.flatten(1, 2).movedim(1, 2)))
        z_BDRS: Tensor = z_BDT.unflatten(2, patches_BRSCPP.shape[1:3])
        return z_BDRS


def load_encoder(locked: Mapping[str, Any], folders: Sequence[Path], name: str) -> FrozenEncoder:
    """Build the stages of a lock file and give them their frozen weights."""
    content = copy.deepcopy(locked["pipeline"])
    for stage, facts in zip(content["stage"], locked["stages"], strict=True):
        stage["train"]["precision"] = facts["precision"]  # as it was resolved where the stage was trained
    facts = locked["input"]
    pipeline, shape, stages = from_json(content, name), tuple(facts.get("row_shape") or [facts["channels"]]), []
    for config, folder in zip(pipeline.stage, folders, strict=False):
        module = build_module(pipeline, config, shape, torch.device("cpu"))
        shape = module.out_shape
        stages.append(load_weights(module, folder))
    return (FrozenPatches if len(shape) == 3 else FrozenEncoder)(stages, facts)
