"""Memory as it will be used: a training step on tensors without data, counted before anything runs."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from stagewise.modules.stage_module import StageModule, Window, represent
from stagewise.objectives.base import Score, Supervised
from stagewise.training.memory_measured import Bytes, MemoryTracker, category, in_threads
from stagewise.training.step import Place, Trainee, gradient, train_together, update
from stagewise.training.validate import add_noise

M = TypeVar("M", bound=nn.Module)


def predict_step(trainee: Trainee, below: Sequence[StageModule], input_shape: tuple[int, ...], window: Window) -> Bytes:
    """Predict the peak of a training step of one stage, as `predict_together` does."""
    first_B = np.zeros(len(window.skip_B), np.int64)
    return predict_together([trainee], below, input_shape, [Place(0, input_shape[2], window, first_B, True)])


def predict_together(
    trainees: Sequence[Trainee],
    below: Sequence[StageModule],
    input_shape: tuple[int, ...],
    where: Sequence[Place],
    small: bool = False,
    noise: bool = False,
) -> Bytes:
    """Predict the peak of a training step, once the optimizers have their state.

    Args:
        trainees: what is trained, lowest first; they are copied, not changed.
        below: frozen stages that the input goes through first, without a graph.
        input_shape: (B, C, T, …) of the batch as it is read, float32.
        where: each one's window.
        small: whether to compute the step, on zeros: its operators return the same tensors.
        noise: whether noise is added to the input.
    """
    mode = None if small else FakeTensorMode(allow_non_fake_inputs=True)
    fakes = [_fake_trainee(trainee, mode) for trainee in trainees]
    frozen = [_copy(stage, mode) for stage in below]
    tracker = MemoryTracker(torch.get_num_threads())
    # One thread: others would spend more on waiting for the next of these small operators than on computing.
    with torch.random.fork_rng(devices=[]) if mode is None else mode, in_threads(1):
        tracker.count((t for fake in fakes for m in (fake.stage, fake.objective) for t in _tensors(m)), "parameters")
        tracker.count((t for stage in frozen for t in _tensors(stage)), "input")
        for fake in fakes:
            trained = [p for p in fake.parameters() if p.requires_grad]
            for parameter in trained:
                parameter.register_post_accumulate_grad_hook(
                    lambda p: tracker.count([p.grad], "gradients") if p.grad is not None else None
                )
            states = _first_update(fake, trained)
            tracker.count((v for s in states for v in s.values() if isinstance(v, Tensor)), "optimizer")
        classes = [_classes(fake, place) for fake, place in zip(fakes, where, strict=True)]
        with tracker:
            with category("input"):
                x_BCT = represent(frozen, _input(input_shape))
                if noise:
                    add_noise(x_BCT, torch.ones(x_BCT.shape[1]), 0)
            generators = [torch.Generator() for _ in fakes]
            train_together(fakes, x_BCT, where, generators, classes, [True] * len(fakes), _step)
            del x_BCT
    return tracker.bytes()


def _first_update(fake: Trainee, trained: Sequence[nn.Parameter]) -> Iterable[dict[str, Any]]:
    """Let the optimizer make its state, which it does in its first step, and return it."""
    if fake.optimizer is None:
        return ()
    if not fake.optimizer.defaults.get("fused"):  # it may ask for numbers, which are nowhere, as Adafactor's step does
        fake.optimizer = _Remembered(fake.optimizer, trained)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    update(fake)
    return fake.optimizer.state.values()


class _Remembered(torch.optim.Optimizer):
    """An optimizer that takes as much memory, in its state and while it steps, as another did with real tensors."""

    def __init__(self, of: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> None:
        super().__init__(parameters, {})
        with _disable_current_modes():
            reals = {id(p): nn.Parameter(torch.empty_strided(p.shape, p.stride(), dtype=p.dtype)) for p in parameters}
            memo: dict[int, object] = {**reals}
            real, tracker = copy.deepcopy(of, memo), MemoryTracker()
            for _ in range(2):  # the second has what the first has made
                for parameter in reals.values():
                    parameter.data.fill_(1)
                    parameter.grad = torch.ones_like(parameter)
                tracker.peak = tracker.total
                with tracker:
                    real.step()
        for parameter in parameters:
            for key, value in real.state[reals[id(parameter)]].items():
                if isinstance(value, Tensor):
                    self.state[parameter][key] = torch.empty_like(value, device=parameter.device)
        self.inside = tracker.peak - tracker.total

    def step(self) -> None:  # type: ignore[override]
        """Take what a step takes beyond the state, and give it back."""
        torch.empty(self.inside, dtype=torch.uint8)


def _input(shape: tuple[int, ...]) -> Tensor:
    """Make a batch in the memory order that a source gives it in: a patch's channels lie side by side."""
    if len(shape) == 3 or shape[1] == 1:
        return torch.zeros(shape)
    return torch.zeros(shape[0], *shape[2:], shape[1]).movedim(-1, 1)


def _step(trainee: Trainee, x_BCT: Tensor, window: Window, generator: torch.Generator, y: Tensor | None) -> Score:
    score = gradient(trainee, x_BCT, window, generator, y)
    update(trainee)  # unconditionally: whether the loss is finite cannot be asked of what has no data
    return score


def _classes(trainee: Trainee, place: Place) -> Tensor | None:
    if not isinstance(trainee.objective, Supervised):
        return None
    items, rows = len(place.window.skip_B), place.window.rows
    return torch.zeros((items, rows) if trainee.objective.per_row else (items,), dtype=torch.int64)


def _copy(module: M, mode: FakeTensorMode | None, memo: dict[int, object] | None = None) -> M:
    """Copy a module; in a mode, with tensors that have shapes but no data.

    Args:
        module: what is copied.
        mode: of the copy's tensors.
        memo: filled with what was copied, by the original's id, as `copy.deepcopy` does.
    """
    memo, of = {} if memo is None else memo, torch.clone if mode is None else mode.from_tensor
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(of(parameter.detach()), parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = of(buffer)
    return copy.deepcopy(module, memo)


def _fake_trainee(trainee: Trainee, mode: FakeTensorMode | None) -> Trainee:
    memo: dict[int, object] = {}
    fake = copy.copy(trainee)
    fake.stage = _copy(trainee.stage, mode, memo)
    fake.objective = _copy(trainee.objective, mode, memo)
    if trainee.optimizer is not None:
        if trainee.optimizer.defaults.get("fused"):  # others are stepped for real; Adagrad may be made with a state
            memo[id(trainee.optimizer.state)] = defaultdict(dict)
        fake.optimizer = copy.deepcopy(trainee.optimizer, memo)
    return fake


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
