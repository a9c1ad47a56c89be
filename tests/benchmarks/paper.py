"""The paper's audio network, stage by stage, as the trainer holds it, and the windows that a step takes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stagewise.modules import GRU, Conv1d
from stagewise.modules.stage_module import StageModule, Window, represent
from stagewise.objectives import InfoNCE
from stagewise.training.step import Trainee

KERNEL, STRIDE, PADDING = [10, 8, 4, 4, 4], [5, 4, 2, 2, 2], [2, 2, 2, 2, 1]
WINDOW, CHANNELS, HIDDEN, BATCH, CROP = 128, 512, 256, 8, 20_480
STAGES = ("conv1", "conv2", "conv3", "conv4", "conv5", "context")


def network(name: str, precision: torch.dtype = torch.float32) -> StageModule:
    """Make one stage, or the whole network as one ("end-to-end")."""
    if name == "end-to-end":
        encoder, context = Conv1d(1, [CHANNELS] * 5, KERNEL, STRIDE, PADDING), GRU(CHANNELS, HIDDEN)
        return StageModule(encoder, context, 1, precision=precision)
    if name == "context":
        return StageModule(None, GRU(CHANNELS, HIDDEN), CHANNELS, precision=precision)
    i = int(name[-1]) - 1
    channels = CHANNELS if i else 1
    layer = Conv1d(channels, CHANNELS, KERNEL[i], STRIDE[i], PADDING[i])
    return StageModule(layer, None, channels, precision=precision)


def trainee(name: str, precision: torch.dtype = torch.float32, pieces: int = 1) -> Trainee:
    """Make a stage in training: InfoNCE and Adam as the paper has them."""
    torch.manual_seed(0)
    stage = network(name, precision)
    objective = InfoNCE(stage.z_channels, stage.out_channels)
    parameters = [*stage.parameters(), *objective.parameters()]
    return Trainee(stage, objective, torch.optim.Adam(parameters, lr=2e-4, fused=True), pieces)


@dataclass(frozen=True)
class Input:
    """What a step reads: raw samples for conv1 and conv2 (conv1 is recomputed), int8 rows for all others."""

    stored: Tensor
    below: tuple[StageModule, ...]
    window: Window

    def rows(self) -> Tensor:
        """Do what the trainer does with what was read."""
        if self.stored.dtype == torch.int8:
            return (self.stored.float().mul_(0.02).add_(2.54)).transpose(1, 2)
        return represent(self.below, self.stored)


def step_input(name: str, batch: int = BATCH) -> Input:
    """Make the input of a step of one stage."""
    generator = np.random.default_rng(0)
    below = (network("conv1").eval().requires_grad_(False),) if name == "conv2" else ()
    stage = network(name)
    geometry = sum((module.geometry for module in below), start=type(stage.geometry)()) + stage.geometry
    window = Window((-(geometry.first // geometry.hop),) * batch, WINDOW)
    span = geometry.window_span(WINDOW)
    if name == "end-to-end":  # the whole window goes through; the window is cut out of its rows
        span = CROP
        window = Window(((geometry.rows(CROP) - WINDOW) // 2,) * batch, WINDOW)
    if name in ("conv1", "conv2", "end-to-end"):
        return Input(torch.from_numpy(generator.standard_normal((batch, 1, span), np.float32)), below, window)
    rows = generator.integers(-127, 127, (batch, span, CHANNELS), np.int8)
    return Input(torch.from_numpy(rows), below, window)
