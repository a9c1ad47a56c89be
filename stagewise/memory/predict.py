"""Predicts the memory of a training step without running it, on tensors that have shapes but no data."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from stagewise.memory.tracker import Bytes, MemoryTracker, category
from stagewise.modules.stage_module import Crop, StageModule, represent
from stagewise.training.step import Trainee, gradient, update

M = TypeVar("M", bound=nn.Module)


def predict_step(
    trainee: Trainee, below: Sequence[StageModule], input_shape: tuple[int, int, int], crop: Crop
) -> Bytes:
    """Predict the peak of a training step, once the optimizer has its state.

    Args:
        trainee: what is trained; it is copied, not changed.
        below: frozen stages that the input goes through first, without a graph.
        input_shape: (B, C, T) of the batch as it is read, float32.
        crop: how the windows are cut out.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    fake = _fake_trainee(trainee, mode)
    assert fake.optimizer is not None
    frozen = [fake_copy(stage, mode) for stage in below]
    tracker = MemoryTracker()
    with mode:
        tracker.count((t for module in (fake.stage, fake.objective) for t in _tensors(module)), "parameters")
        tracker.count((t for stage in frozen for t in _tensors(stage)), "input")
        trained = [p for p in fake.parameters() if p.requires_grad]
        for parameter in trained:
            parameter.register_post_accumulate_grad_hook(
                lambda p: tracker.count([p.grad], "gradients") if p.grad is not None else None
            )
        # The optimizer makes its state in its first step: a gradient of nothing gets that out of the way.
        for parameter in trained:
            parameter.grad = torch.empty_like(parameter)
        update(fake)
        states = fake.optimizer.state.values()
        tracker.count((v for s in states for v in s.values() if isinstance(v, Tensor)), "optimizer")
        with tracker:
            with category("input"):
                x_BCT = represent(frozen, torch.empty(input_shape))
            gradient(fake, x_BCT, crop, torch.Generator())
            del x_BCT
            update(fake)
    return tracker.bytes()


def fake_copy(module: M, mode: FakeTensorMode, memo: dict[int, object] | None = None) -> M:
    """Copy a module with tensors that have shapes but no data.

    Args:
        module: what is copied.
        mode: of the copy's tensors.
        memo: filled with what was copied, by the original's id, as `copy.deepcopy` does.
    """
    memo = {} if memo is None else memo
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(mode.from_tensor(parameter.detach()), parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = mode.from_tensor(buffer)
    return copy.deepcopy(module, memo)


def _fake_trainee(trainee: Trainee, mode: FakeTensorMode) -> Trainee:
    memo: dict[int, object] = {}
    fake = copy.copy(trainee)
    fake.stage = fake_copy(trainee.stage, mode, memo)
    fake.objective = fake_copy(trainee.objective, mode, memo)
    if trainee.optimizer is not None:
        memo[id(trainee.optimizer.state)] = defaultdict(dict)  # it begins without a state
        fake.optimizer = copy.deepcopy(trainee.optimizer, memo)
    return fake


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()
