"""One training step of one stage, whole or in pieces with exactly the same gradient.

Legend: B items of the batch, C channels of x or z, D channels of c, T rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stagewise.errors import ConfigError
from stagewise.memory.tracker import category
from stagewise.modules.stage_module import Crop, StageModule, autocast
from stagewise.objectives import Objective, Score

GRADIENT_NORM = "gradient_norm"  # name of the metric


@dataclass
class Trainee:
    """What a training step changes.

    Attributes:
        stage: the module in training.
        objective: its local loss.
        optimizer: over the parameters of both; None where there is nothing to train.
        pieces: parts that a batch is computed in.
        clip_gradient_norm: bound on the norm of the whole gradient, or None.
        hands_on: keep, in `rows`, what the stage hands on of windows that fill their items.
    """

    stage: StageModule
    objective: Objective
    optimizer: torch.optim.Optimizer | None
    pieces: int = 1
    clip_gradient_norm: float | None = None
    hands_on: bool = False
    rows: Tensor | None = None

    def parameters(self) -> list[nn.Parameter]:
        """Everything the optimizer updates."""
        return [*self.stage.parameters(), *self.objective.parameters()]


def train_step(
    trainee: Trainee, x_BCT: Tensor, crop: Crop, generator: torch.Generator, y: Tensor | None = None
) -> Score:
    """Update the trainee by one batch.

    Args:
        trainee: what is trained.
        x_BCT: the input rows of B windows, on the trainee's device.
        crop: how to cut the windows' rows out of the module's output.
        generator: where the objective draws from.
        y: classes, for an objective that needs them.

    Returns:
        The score before the update, with the norm of the gradient among its metrics; nothing is updated if the loss
        or the norm is not finite.
    """
    score = gradient(trainee, x_BCT, crop, generator, y)
    norm = gradient_norm(trainee)
    if torch.isfinite(score.loss + norm):
        update(trainee, norm)
    else:
        for parameter in trainee.parameters():
            parameter.grad = None
    return Score(score.loss, {**score.metrics, GRADIENT_NORM: norm})


def gradient_norm(trainee: Trainee) -> Tensor:
    """Return the norm of the whole gradient: infinite, too, where its square is, which stops Adam for good."""
    return torch.nn.utils.get_total_norm([p.grad for p in trainee.parameters() if p.grad is not None])


def update(trainee: Trainee, norm: Tensor | None = None) -> None:
    """Take the optimizer's step with the gradient that is there (and its norm, if that is known), and free it."""
    if trainee.optimizer is None:
        return
    if trainee.clip_gradient_norm is not None:
        norm = gradient_norm(trainee) if norm is None else norm
        torch.nn.utils.clip_grads_with_norm_(trainee.parameters(), trainee.clip_gradient_norm, norm)
    with category("optimizer"):
        trainee.optimizer.step()
    trainee.optimizer.zero_grad(set_to_none=True)


def gradient(trainee: Trainee, x_BCT: Tensor, crop: Crop, generator: torch.Generator, y: Tensor | None = None) -> Score:
    """Add the batch's gradient to the parameters' `.grad`.

    In pieces ("gradient caching", Gao et al. 2021): all representations without a graph, the loss's gradient
    with respect to them, then piece by piece forward again and backward from there. The sum is the gradient
    of the whole batch, up to the order in which floats are added.
    """
    if trainee.pieces == 1:
        if trainee.hands_on:
            z_BCT, c_BDT, trainee.rows = trainee.stage.window_and_rows(x_BCT, crop)
        else:
            z_BCT, c_BDT = trainee.stage.window(x_BCT, crop)
        score = score_of(trainee, z_BCT, c_BDT, generator, y)
        del z_BCT, c_BDT  # whatever backward needs is in the graph; the rest goes now
        if score.loss.requires_grad:  # in sync there may be a stage in which nothing can be trained
            with category("activations"):
                score.loss.backward()
        return Score(score.loss.detach(), score.metrics)

    size = -(-len(x_BCT) // trainee.pieces)
    slices = [slice(start, min(start + size, len(x_BCT))) for start in range(0, len(x_BCT), size)]
    with torch.no_grad():
        if trainee.hands_on:
            whole = [trainee.stage.window_and_rows(x_BCT[s], crop.of(s)) for s in slices]
            parts, trainee.rows = [(z, c) for z, c, _ in whole], torch.cat([rows for _, _, rows in whole])
            del whole
        else:
            parts = [trainee.stage.window(x_BCT[s], crop.of(s)) for s in slices]
        z_BCT = torch.cat([z for z, _ in parts]).requires_grad_()
        same = all(c is z for z, c in parts)
        c_BDT = z_BCT if same else torch.cat([c for _, c in parts]).requires_grad_()
        del parts
    score = score_of(trainee, z_BCT, c_BDT, generator, y)
    with category("activations"):
        score.loss.backward()
    gz_BCT, gc_BDT = z_BCT.grad, None if same else c_BDT.grad
    del z_BCT, c_BDT
    for s in slices:
        z, c = trainee.stage.window(x_BCT[s], crop.of(s))
        outputs = [(t, g[s]) for t, g in ((z, gz_BCT), (c, gc_BDT)) if g is not None and t.requires_grad]
        del z, c
        if outputs:
            torch.autograd.backward([t for t, _ in outputs], [g for _, g in outputs])
        del outputs
    return Score(score.loss.detach(), score.metrics)


def score_of(
    trainee: Trainee, z_BCT: Tensor, c_BDT: Tensor, generator: torch.Generator, y: Tensor | None = None
) -> Score:
    """Score a window in the stage's precision; what that allocates is counted as the objective's."""
    labels = () if y is None else (y,)
    with category("objective"), autocast(z_BCT.device.type, trainee.stage.precision):
        score = trainee.objective(z_BCT, c_BDT, generator, *labels)
    if not isinstance(score, Score):
        raise ConfigError(
            f"{type(trainee.objective).__qualname__}.forward gives {type(score).__name__}: it must give a "
            "stagewise.objectives.Score of the loss."
        )
    return score


def batch_dependent(stage: nn.Module) -> list[str]:
    """Name the layers whose output for one item depends on the others or on chance: not exact in pieces."""
    kinds = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RReLU)
    return [type(module).__name__ for module in stage.modules() if isinstance(module, kinds)]
