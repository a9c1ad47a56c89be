"""One training step: forward, loss and update of one module, or of several that train at the same time.

Legend: B items of the batch, C channels of x or z, D channels of c, T rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from stagewise.errors import ConfigError
from stagewise.modules.geometry import Geometry
from stagewise.modules.stage_module import StageModule, Window, autocast, represent
from stagewise.objectives import Objective, Score
from stagewise.seeds import derive_seed
from stagewise.training.feed import Source
from stagewise.training.memory_measured import category
from stagewise.training.windows import Batch, Classes, Crops, Windows

# One training step of one stage, whole or in pieces with exactly the same gradient.

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
        schedule: of the optimizer's learning rate, stepped after every update; None leaves it as it is.
    """

    stage: StageModule
    objective: Objective
    optimizer: torch.optim.Optimizer | None
    pieces: int = 1
    clip_gradient_norm: float | None = None
    hands_on: bool = False
    rows: Tensor | None = None
    schedule: LRScheduler | None = None

    def parameters(self) -> list[nn.Parameter]:
        """Everything the optimizer updates."""
        return [*self.stage.parameters(), *self.objective.parameters()]


def train_step(
    trainee: Trainee, x_BCT: Tensor, window: Window, generator: torch.Generator, y: Tensor | None = None
) -> Score:
    """Update the trainee by one batch.

    Args:
        trainee: what is trained.
        x_BCT: the input rows of B windows, on the trainee's device.
        window: how to cut the windows' rows out of the module's output.
        generator: where the objective draws from.
        y: classes, for an objective that needs them.

    Returns:
        The score before the update, with the norm of the gradient among its metrics; nothing is updated if the loss
        or the norm is not finite.
    """
    score = gradient(trainee, x_BCT, window, generator, y)
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
    if trainee.schedule is not None:
        trainee.schedule.step()
    trainee.optimizer.zero_grad(set_to_none=True)


def gradient(
    trainee: Trainee, x_BCT: Tensor, window: Window, generator: torch.Generator, y: Tensor | None = None
) -> Score:
    """Add the batch's gradient to the parameters' `.grad`.

    In pieces ("gradient caching", Gao et al. 2021): all representations without a graph, the loss's gradient
    with respect to them, then piece by piece forward again and backward from there. The sum is the gradient
    of the whole batch, up to the order in which floats are added.
    """
    if trainee.pieces == 1:
        if trainee.hands_on:
            z_BCT, c_BDT, trainee.rows = trainee.stage.window_and_rows(x_BCT, window)
        else:
            z_BCT, c_BDT = trainee.stage.window(x_BCT, window)
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
            whole = [trainee.stage.window_and_rows(x_BCT[s], window.of(s)) for s in slices]
            parts, trainee.rows = [(z, c) for z, c, _ in whole], torch.cat([rows for _, _, rows in whole])
            del whole
        else:
            parts = [trainee.stage.window(x_BCT[s], window.of(s)) for s in slices]
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
        z, c = trainee.stage.window(x_BCT[s], window.of(s))
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


# What training needs, of one stage alone or of several in sync, and where it stands.

Report = Callable[..., None]  # report(kind, **facts): what the terminal and the event log are told
VALIDATION_WINDOWS = 4  # per item, or as many as fit: one random window an item would make convergence noisy


@dataclass(frozen=True)
class Member:
    """One of the stages that are trained together; the only one in the iterative schedule.

    Attributes:
        name: of the stage.
        folder: where it lives.
        trainee: the stage, its objective and optimizer, on the job's device.
        geometry: from the source's rows to this stage's.
        rows: of its window, at most.
        every: steps between two updates.
        classes: for an objective that needs them.
    """

    name: str
    folder: Path
    trainee: Trainee
    geometry: Geometry
    rows: int
    every: int = 1
    classes: Classes | None = None


@dataclass(frozen=True)
class Job:
    """Everything that training needs.

    Attributes:
        members: the stages in training, lowest first.
        seed: of the pipeline.
        source: where rows are read.
        below: frozen stages between the source and the lowest member, lowest first.
        windows: of the training items, as the topmost member needs them.
        validation: of the held-out items; without any, convergence is read off the training loss.
        batch_size: windows per step.
        epochs: at most.
        patience: epochs without a better loss (summed over the members).
        checkpoint: seconds between checkpoints within an epoch.
        keys: names of the items, for messages.
        weights_below: sha256 of the weights right below the lowest member, "" if that is the data.
        noise: added to the input of a training step, in deviations of each channel.
    """

    members: Sequence[Member]
    seed: int
    source: Source
    below: Sequence[StageModule]
    windows: Windows | Crops
    validation: Windows | Crops
    batch_size: int
    epochs: int
    patience: int
    checkpoint: float
    device: torch.device
    keys: Sequence[str]
    weights_below: str = ""
    noise: float = 0.0

    @property
    def name(self) -> str:
        """Name of the topmost member, which the draws of windows are seeded with."""
        return self.members[-1].name

    def says(self, one: str, several: str) -> str:
        """Begin a message on what the members do: as "stage a is …", or "stages a to c are …"."""
        names = [member.name for member in self.members]
        return f"stage {names[0]} {one}" if len(names) == 1 else f"stages {names[0]} to {names[-1]} {several}"


@dataclass
class Progress:
    """Where training stands: JSON-able, and part of every checkpoint."""

    epoch: int = 0  # epochs finished
    step: int = 0  # steps done in the epoch after
    steps: int = 0  # steps done in all
    sums: dict[str, dict[str, float]] = field(default_factory=dict)  # of this epoch's metrics, by member
    scored: dict[str, int] = field(default_factory=dict)  # steps of this epoch that they are sums of
    history: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # of finished epochs, by member
    best_loss: float | None = None
    best_epoch: int = 0
    best_file: str = ""
    best_sha256: str = ""
    judged: int | None = None  # held-out windows that every loss is a mean of; None: noted by an older version
    seconds: float = 0.0
    waited: float = 0.0
    peak_bytes: int = 0
    machine: str | None = None  # that trained last
    weights_below: str | None = None  # that it is trained on
    health: dict[str, dict[str, Any]] = field(default_factory=dict)  # by member
    scored_again: dict[str, dict[str, float]] = field(default_factory=dict)  # the chosen weights, by member


# One step of all stages in training, lowest first: each one's backward comes right after its own forward.
#
# So only one stage's graph exists at a time, and what a stage hands on are rows without a graph. One stage alone is the
# case of one. Legend: B items, C channels, T rows.

NEARLY_ALL = 0.75  # of a stage's rows: a graph over the others costs less than a second forward pass


@dataclass(frozen=True)
class Place:
    """Where a stage's window lies.

    Attributes:
        begin, end: rows of its input that the window needs.
        window: cuts its rows out of what they give.
        first_B: the window's first row, counted from each item's beginning.
        whole: whether it is (nearly) all that the stage gives, so that the same forward pass hands rows on.
    """

    begin: int
    end: int
    window: Window
    first_B: npt.NDArray[np.int64]  # noqa: N815
    whole: bool


def updates_after(steps: int, every: int) -> int:
    """Return how many updates a stage has had after so many steps, of which the first is one."""
    return -(-steps // every)


def place_windows(members: Sequence[Member], batch: Batch, *seed: str | int) -> list[Place]:
    """Find every member's window inside what a batch was read for, which is the topmost member's window.

    Those below score rows drawn at random among the rows that the ends of the piece have not spoilt.
    """
    found = []
    length = batch.rows if batch.grid else batch.span
    for member in members[:-1]:
        if batch.grid:
            found.append(Place(0, length, batch.window, batch.begins, True))
            continue
        low, high = intact_rows(member.geometry, batch.span)
        rows = min(member.rows, high - low)
        rng = np.random.Generator(np.random.Philox(derive_seed(*seed, member.name, "place")))
        start = low + int(rng.integers(high - low - rows + 1))
        begin, end, skip = member.trainee.stage.geometry.piece(start, start + rows, length)
        whole = rows >= NEARLY_ALL * member.geometry.rows(batch.span)
        if whole:
            begin, end, skip = 0, length, start
        window = Window((skip,) * len(batch.items), rows)
        found.append(Place(begin, end, window, batch.begins // member.geometry.hop + start, whole))
        length = member.trainee.stage.geometry.rows(length)
    top = batch.begins if batch.grid else batch.begins // members[-1].geometry.hop + np.array(batch.skips)
    return [*found, Place(0, length, batch.window, top, True)]


def intact_rows(geometry: Geometry, span: int) -> tuple[int, int]:
    """Return the rows [low, high) of a piece of `span` input rows that see nothing but it."""
    low = -(geometry.first // geometry.hop)
    return low, (span - geometry.first - geometry.receptive_field) // geometry.hop + 1


def train_together(
    trainees: Sequence[Trainee],
    x_BCT: Tensor,
    where: Sequence[Place],
    generators: Sequence[torch.Generator],
    classes: Sequence[Tensor | None],
    due: Sequence[bool],
    step: Callable[[Trainee, Tensor, Window, torch.Generator, Tensor | None], Score] = train_step,
) -> list[Score | None]:
    """Update every stage that is due by one batch, and hand what each gave before its update to the next.

    Args:
        trainees: the stages, lowest first.
        x_BCT: the batch, as the lowest takes it.
        where: each one's window.
        generators: where each one's objective draws from.
        classes: of each one's window, if it needs them.
        due: which are updated in this step.
        step: what updates one.

    Returns:
        Each one's score before the update, None where none was due.
    """
    scores: list[Score | None] = []
    for trainee, place, generator, y, now in zip(trainees, where, generators, classes, due, strict=True):
        top = trainee is trainees[-1]
        trainee.hands_on = now and place.whole and not top
        rows_BCT = None if top or trainee.hands_on else represent([trainee.stage], x_BCT)
        if now:
            window_BCT = x_BCT if place.whole else x_BCT[:, :, place.begin : place.end]
            scores.append(step(trainee, window_BCT, place.window, generator, y))
        else:
            scores.append(None)
        if not top:
            handed_on = trainee.rows if rows_BCT is None else rows_BCT
            assert handed_on is not None
            x_BCT = handed_on
            trainee.rows = handed_on = rows_BCT = None
    return scores
