"""Learning rates that change from step to step: made for a number of updates, and found again after a stop."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from stagewise.errors import ConfigError
from stagewise.pipeline import Spec, build, resolve
from stagewise.registry import SCHEDULES

UPDATES = ("total_steps", "T_max")  # what schedules call the number of updates; given where the file does not say it
TRIED = 100  # updates of the training that a schedule is tried for, of which it takes a few


class WarmupCosine(LambdaLR):
    """The learning rate rises in a line to the optimizer's own, then falls along half a cosine.

    Loshchilov and Hutter 2017, "SGDR", equation 5, without restarts; the rise is Goyal et al. 2017, section 2.2.

    Args:
        optimizer: whose learning rate it is.
        total_steps: updates of the whole training.
        warmup: share of them in which it rises.
        floor: share of the learning rate that is left at the end.

    Raises:
        ValueError: a share is not between 0 and 1.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, total_steps: int, warmup: float = 0.05, floor: float = 0.0
    ) -> None:
        for name, share in (("warmup", warmup), ("floor", floor)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be between 0 and 1, not {share}")
        rise = round(warmup * total_steps)

        def factor(step: int) -> float:
            if step < rise:
                return (step + 1) / rise
            through = min(1.0, (step - rise) / max(1, total_steps - rise))
            return floor + (1 - floor) * (1 + math.cos(math.pi * through)) / 2

        super().__init__(optimizer, factor)


def make_schedule(spec: Spec, where: str, updates: int) -> Callable[[torch.optim.Optimizer], LRScheduler]:
    """Return what makes the schedule of an optimizer; how many updates there will be is told to those that ask.

    Args:
        spec: its class and arguments.
        where: its table stands, for messages.
        updates: of the whole training, at most.

    Raises:
        ConfigError: the class or its arguments are not usable.
    """
    kind = resolve(spec.target, LRScheduler, SCHEDULES, where)
    asked = set(UPDATES) & inspect.signature(kind).parameters.keys() - spec.arguments.keys()
    told = dict.fromkeys(asked, max(1, updates))
    return lambda optimizer: build(spec, LRScheduler, SCHEDULES, where, optimizer=optimizer, **told)


def check_schedule(spec: Spec, where: str, optimizer: torch.optim.Optimizer) -> None:
    """Take two steps of a schedule, as training takes them; gradients of the optimizer's parameters are there.

    Raises:
        ConfigError: it is not usable, as one whose step asks for a loss.
    """
    schedule = make_schedule(spec, where, TRIED)(optimizer)
    try:
        for _ in range(2):
            optimizer.step()
            schedule.step()
    except Exception as error:  # whatever a class of somebody's own raises
        raise ConfigError(
            f"{where}: {spec.target} cannot be used: {error}. Its step is taken after every update, and given no loss: "
            'choose another, such as "warmup-cosine".'
        ) from error


def replay(schedule: LRScheduler, updates: int) -> None:
    """Take a new schedule to where it stood after so many updates: it depends on nothing else."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler\.step\(\)` before")
        for _ in range(updates):
            schedule.step()
