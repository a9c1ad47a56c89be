"""Noise on a stage's input, in deviations of each channel: against learning a stored, never changing input by heart.

Legend: B items, C channels, T rows (of patches: …, H, W after the rows).
"""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor

from stagewise.errors import NumberError
from stagewise.training.job import Job
from stagewise.training.validate import as_input, named

BATCHES = 16  # that deviations are taken from; the same in every run


@torch.no_grad()
def deviations(job: Job) -> Tensor:
    """Return the standard deviation of every channel of a job's input, (C,), float32.

    Raises:
        NumberError: the input holds NaN or infinity, which would be everywhere in the noise.
    """
    rows, sum_C, squares_C = 0, torch.zeros(()), torch.zeros(())
    for batch in islice(job.windows.batches(job.batch_size, job.seed, job.name, "deviations"), BATCHES):
        x_BCT = as_input(job, job.source.batch(batch))
        x_CN = x_BCT.transpose(0, 1).flatten(1).double().cpu()
        if not torch.isfinite(x_CN).all():
            raise NumberError(
                f"stage {job.name}: its input holds NaN or infinity ({named(job, batch)}); nothing was trained. "
                "Check these items, then type the same command again."
            )
        rows, sum_C, squares_C = rows + x_CN.shape[1], sum_C + x_CN.sum(1), squares_C + x_CN.square().sum(1)
    variance_C = squares_C / rows - (sum_C / rows).square()
    return variance_C.clamp(min=0).sqrt().float()


def add_noise(x_BCT: Tensor, deviation_C: Tensor, seed: int) -> Tensor:
    """Add normal noise of each channel's deviation to x, in its place and its order in memory, and return it."""
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same noise on any device
    noise = torch.randn(x_BCT.shape, generator=generator).to(x_BCT.device)
    shape = (-1, *(1,) * (x_BCT.ndim - 2))
    return x_BCT.add_(noise.mul_(deviation_C.to(x_BCT.device).view(shape)))
