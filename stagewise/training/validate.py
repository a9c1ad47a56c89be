"""The loss of held-out windows, early stopping, whether a representation is worth freezing, noise on the input.

Legend: B items, C channels, T rows, D channels of c, H, W after the rows).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from stagewise.errors import NumberError
from stagewise.modules.stage_module import represent
from stagewise.seeds import derive_seed
from stagewise.training.feed import Feed
from stagewise.training.step import Job, Place, Progress, place_windows, score_of
from stagewise.training.windows import Batch

# Is a representation worth freezing? Dead channels, and how many directions the rows really use.

DEAD = 1e-6  # of the largest deviation of a channel, or of the channel's own mean


class Health:
    """Adds up the first two moments of representation rows.

    The first row is subtracted from all: a constant channel is then exactly zero, whatever its constant.
    """

    def __init__(self, channels: int) -> None:
        self.rows = 0
        self.first_C: Tensor | None = None
        self.sum_C = torch.zeros(channels, dtype=torch.float64)
        self.squares_CC = torch.zeros(channels, channels, dtype=torch.float64)

    def add(self, z_BCT: Tensor) -> None:
        """Count the rows of z."""
        rows_RC = z_BCT.detach().transpose(1, 2).flatten(0, 1).float().cpu()
        if self.first_C is None:
            self.first_C = rows_RC[0].clone()
        rows_RC = rows_RC - self.first_C
        self.rows += len(rows_RC)
        self.sum_C += rows_RC.sum(0, dtype=torch.float64)
        self.squares_CC += (rows_RC.T @ rows_RC).double()

    def report(self) -> dict[str, Any]:
        """Return dead channels, effective rank (Roy & Vetterli 2007) and words of warning, JSON-able."""
        unknown = {"rows": self.rows, "dead_channels": None, "effective_rank": None}
        if self.rows < 2 or self.first_C is None:
            return {**unknown, "warnings": []}
        if not (torch.isfinite(self.first_C).all() and torch.isfinite(self.squares_CC).all()):
            return {**unknown, "warnings": ["the representation holds NaN, infinity or huge numbers"]}
        mean_C = self.sum_C / self.rows
        covariance_CC = self.squares_CC / self.rows - torch.outer(mean_C, mean_C)
        deviation_C = covariance_CC.diagonal().clamp(min=0).sqrt()
        largest = float(deviation_C.max())
        size_C = (mean_C + self.first_C).abs().clamp(min=max(largest, 1e-30))
        dead = int((deviation_C <= DEAD * size_C).sum())
        share = torch.linalg.eigvalsh(covariance_CC).clamp(min=0)
        share = share / share.sum().clamp(min=1e-300)
        rank = float(torch.exp(-(share * share.clamp(min=1e-300).log()).sum()))
        channels = len(deviation_C)
        warnings = []
        if dead == channels:
            warnings.append("the representation has collapsed: every row is the same")
        elif dead > channels // 2:
            warnings.append(f"{dead} of {channels} channels are dead (constant)")
        return {
            "rows": self.rows,
            "dead_channels": dead,
            "effective_rank": round(rank, 2),
            "warnings": warnings,
        }


# Early stopping: when a loss is a better one, and when training has converged.


def is_better(loss: float, progress: Progress) -> bool:
    """Say whether a sum of the members' validation losses is below the best one so far."""
    return not progress.best_file or loss < (math.inf if progress.best_loss is None else progress.best_loss)


def has_converged(progress: Progress, patience: int) -> bool:
    """Say whether the best loss is as many epochs old as patience allows."""
    return progress.epoch - progress.best_epoch >= patience


# What a step of training and of validation have in common, and validation: the same windows and negatives every time.


def make_input(job: Job, stored: Tensor) -> Tensor:
    """Return a batch as the lowest member takes it, (B, C, T), from what was stored."""
    return represent(job.below, job.source.finish(stored.to(job.device, non_blocking=True)))


def prepare_objectives(
    job: Job, batch: Batch, where: Sequence[Place], *seed: str | int
) -> tuple[list[torch.Generator], list[Tensor | None]]:
    """Return where each member's objective draws from, and the classes of its window."""
    generators, classes = [], list[Tensor | None]()
    for member, place in zip(job.members, where, strict=True):
        generators.append(torch.Generator().manual_seed(derive_seed(job.seed, member.name, *seed)))
        if member.classes is None:
            classes.append(None)
        else:
            classes.append(member.classes.read(batch.items, place.first_B, place.window.rows).to(job.device))
    return generators, classes


def name_items(job: Job, batch: Batch) -> str:
    """Name the items of a batch, for messages."""
    return "items " + ", ".join(job.keys[item] for item in dict.fromkeys(batch.items.tolist()))


@torch.no_grad()
def validate(job: Job, draw: str = "validation") -> tuple[dict[str, dict[str, float]], dict[str, dict[str, Any]]]:
    """Return every member's loss and metrics over the held-out items, and the health of its rows.

    Args:
        job: what is trained.
        draw: seeds which windows, and which negatives, it is measured on.

    Raises:
        NumberError: a loss is NaN or infinite; the message has still to say after which epoch.
    """
    for member in job.members:
        member.trainee.stage.eval()
        member.trainee.objective.eval()
    health = {member.name: Health(member.trainee.stage.c_channels) for member in job.members}
    sums: dict[str, dict[str, float]] = {member.name: {} for member in job.members}
    count = 0
    batches = job.validation.batches(job.batch_size, job.seed, job.name, draw, every=True)
    for number, (batch, stored) in enumerate(Feed(job.source)(batches)):
        torch.manual_seed(derive_seed(job.seed, job.name, draw, number))  # for whatever draws from it even so
        x_BCT = make_input(job, stored)
        where = place_windows(job.members, batch, job.seed, draw, number)
        for member, place, generator, y in zip(
            job.members, where, *prepare_objectives(job, batch, where, draw, number), strict=True
        ):
            stage = member.trainee.stage
            z_BCT, c_BDT = stage.window(x_BCT if place.whole else x_BCT[:, :, place.begin : place.end], place.window)
            score = score_of(member.trainee, z_BCT, c_BDT, generator, y)
            health[member.name].add(c_BDT.flatten(2))
            numbers = {name: value.item() for name, value in {"loss": score.loss, **score.metrics}.items()}
            bad = next((name for name, value in numbers.items() if not math.isfinite(value)), None)
            if bad is not None:
                raise NumberError(
                    f"stage {member.name}: the {bad} of validation is {numbers[bad]} ({name_items(job, batch)}); "
                    "nothing is frozen. Check these items; if they are sound, lower the learning rate with "
                    f"`--set stage.{member.name}.train.optimizer.lr=1e-4`."
                )
            for name, value in numbers.items():
                sums[member.name][name] = sums[member.name].get(name, 0.0) + value * len(batch.items)
            if member is not job.members[-1]:
                x_BCT = represent([stage], x_BCT)
        count += len(batch.items)
    averages = {stage: {name: value / count for name, value in own.items()} for stage, own in sums.items()}
    return averages, {name: each.report() for name, each in health.items()}


# Noise on a stage's input, in deviations of each channel: against learning a stored, never changing input by heart.

BATCHES = 16  # that deviations are taken from; the same in every run


@torch.no_grad()
def deviations(job: Job) -> Tensor:
    """Return the standard deviation of every channel of a job's input, (C,), float32.

    Raises:
        NumberError: the input holds NaN or infinity, which would be everywhere in the noise.
    """
    rows, sum_C, squares_C = 0, torch.zeros(()), torch.zeros(())
    for batch in islice(job.windows.batches(job.batch_size, job.seed, job.name, "deviations"), BATCHES):
        x_BCT = make_input(job, job.source.batch(batch))
        x_CN = x_BCT.transpose(0, 1).flatten(1).double().cpu()
        if not torch.isfinite(x_CN).all():
            raise NumberError(
                f"stage {job.name}: its input holds NaN or infinity ({name_items(job, batch)}); nothing was trained. "
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
