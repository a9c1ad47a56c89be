"""Cross-entropy: a linear classifier on what a stage hands on, trained together with the stage.

Legend: B items, D channels of c, T rows of an item, or patches of its grid; N examples, K classes.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stagewise.objectives.base import Score, Supervised

UNKNOWN = -1


class CrossEntropy(Supervised):
    """Classify the mean of an item's rows, or every row, by a linear map of c.

    Löwe et al. 2019, tables 1 and 3: "supervised" is this on one stage that holds the whole network, "greedy
    supervised" is this on every stage. The loss of an untrained stage is close to ln(classes).

    Args:
        z_channels: C, channels of z, which is not looked at.
        c_channels: D, channels of c.
        classes: K.
        labels: name of the data set's label.
        pool: "mean" for one class of each item; None for one of each row ("none" in a file, which has no None).

    Raises:
        ValueError: there is no such `pool`.
    """

    def __init__(
        self,
        z_channels: int,  # noqa: ARG002
        c_channels: int,
        classes: int,
        labels: str,
        pool: Literal["mean", "none"] | None = "mean",
    ) -> None:
        super().__init__()
        if pool not in ("mean", "none", None):
            raise ValueError(f'pool must be "mean" or "none", not {pool!r}')
        self.labels, self.per_row = labels, pool != "mean"
        self.linear = nn.Linear(c_channels, classes)

    def forward(
        self,
        z_BCT: Tensor,  # noqa: ARG002
        c_BDT: Tensor,
        generator: torch.Generator | None = None,  # noqa: ARG002
        y: Tensor | None = None,
    ) -> Score:
        """Return the mean loss and the accuracy over the known classes.

        Raises:
            ValueError: y is not (B,) with a `pool`, or not (B, T) without one.
        """
        c_BDT = c_BDT.flatten(2)
        if self.per_row:
            features, hint = c_BDT.transpose(1, 2), 'set pool to "mean" if the label has one class per item'
        else:
            features, hint = c_BDT.mean(2), 'set pool to "none" if the label has one class per row'
        y = one_class_each(y, features.shape[:-1], f"label {self.labels!r}", hint)
        loss, accuracy = cross_entropy(self.linear(features).flatten(0, -2), y.flatten())
        return Score(loss, {"accuracy": accuracy})


def one_class_each(y: Tensor | None, shape: torch.Size, where: str, hint: str) -> Tensor:
    """Return y if it has `shape`.

    Raises:
        ValueError: it has not, or is None.
    """
    if y is None or y.shape != shape:
        given = "none were given" if y is None else f"those given have shape {tuple(y.shape)}"
        raise ValueError(f"{where}: classes of shape {tuple(shape)} are needed, but {given}; {hint}")
    return y


def cross_entropy(logits_NK: Tensor, y_N: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean loss and the accuracy over the known classes, a tie no hit; both are 0 if none is known."""
    known_N = y_N != UNKNOWN
    count = known_N.sum().clamp(min=1)
    loss = F.cross_entropy(logits_NK, y_N, ignore_index=UNKNOWN, reduction="sum") / count
    own_N1 = logits_NK.gather(1, y_N.clamp(min=0)[:, None])
    hits_N = (logits_NK >= own_N1).sum(1) == 1  # none but its own
    return loss, (hits_N & known_N).sum() / count
