"""What a step of training and of validation have in common, and validation: the same windows and negatives every time.

Legend: B items, C channels of x or z, D channels of c, T rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stagewise.errors import NumberError
from stagewise.modules.stage_module import represent
from stagewise.seeds import derive_seed
from stagewise.training.health import Health
from stagewise.training.job import Job
from stagewise.training.step import score_of
from stagewise.training.together import Place, places
from stagewise.windows.draw import Batch
from stagewise.windows.feed import Feed


def as_input(job: Job, stored: Tensor) -> Tensor:
    """Return a batch as the lowest member takes it, (B, C, T), from what was stored."""
    return represent(job.below, job.source.finish(stored.to(job.device, non_blocking=True)))


def drawn(
    job: Job, batch: Batch, where: Sequence[Place], *seed: str | int
) -> tuple[list[torch.Generator], list[Tensor | None]]:
    """Return where each member's objective draws from, and the classes of its window."""
    generators, classes = [], list[Tensor | None]()
    for member, place in zip(job.members, where, strict=True):
        generators.append(torch.Generator().manual_seed(derive_seed(job.seed, member.name, *seed)))
        if member.classes is None:
            classes.append(None)
        else:
            classes.append(member.classes.of(batch.items, place.first_B, place.crop.rows).to(job.device))
    return generators, classes


def named(job: Job, batch: Batch) -> str:
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
        x_BCT = as_input(job, stored)
        where = places(job.members, batch, job.seed, draw, number)
        for member, place, generator, y in zip(
            job.members, where, *drawn(job, batch, where, draw, number), strict=True
        ):
            stage = member.trainee.stage
            z_BCT, c_BDT = stage.window(x_BCT if place.whole else x_BCT[:, :, place.begin : place.end], place.crop)
            score = score_of(member.trainee, z_BCT, c_BDT, generator, y)
            health[member.name].add(c_BDT.flatten(2))
            numbers = {name: value.item() for name, value in {"loss": score.loss, **score.metrics}.items()}
            bad = next((name for name, value in numbers.items() if not math.isfinite(value)), None)
            if bad is not None:
                raise NumberError(
                    f"stage {member.name}: the {bad} of validation is {numbers[bad]} ({named(job, batch)}); nothing "
                    "is frozen. Check these items; if they are sound, lower the learning rate with "
                    f"`--set stage.{member.name}.train.optimizer.lr=1e-4`."
                )
            for name, value in numbers.items():
                sums[member.name][name] = sums[member.name].get(name, 0.0) + value * len(batch.items)
            if member is not job.members[-1]:
                x_BCT = represent([stage], x_BCT)
        count += len(batch.items)
    averages = {stage: {name: value / count for name, value in own.items()} for stage, own in sums.items()}
    return averages, {name: each.report() for name, each in health.items()}
