"""Objectives that need labels: cross-entropy, and predsim, which adds a similarity to it.

Legend: B items, D channels of c, T rows of an item, or patches of its grid; N examples, K classes, R × S patches of
an image's grid, or pixels of its map; F features.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stagewise.objectives.base import Score, Supervised
from stagewise.text import counted

# Cross-entropy: a linear classifier on what a stage hands on, trained together with the stage.

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


# PredSim: predict the class, and be as similar to the other images of the batch as their classes are.

PREDICTING = 4096  # numbers of an image that the classifier sees at most, as in the paper's experiments


class PredSim(Supervised):
    """Add (1 − w) · cross-entropy of a linear classifier to w · mean of (S(conv(c)) − S(one-hot y))².

    Nøkland and Eidnes 2019, Training Neural Networks with Local Error Signals, section 3; where the paper is silent,
    as in its authors' code (github anokland/local-loss). S is the matrix of cosines between the images of the batch,
    each centred by the mean of its own features; the convolution is 3 × 3 without a bias; the classifier begins at
    zero and sees c averaged over the cells of the finest square grid that gives it no more than 4,096 numbers.

    Args:
        z_channels: C, channels of z, which is not looked at.
        c_channels: D, channels of c.
        classes: K.
        labels: name of the data set's label.
        weight: w, the share of the similarity.

    Raises:
        ValueError: `weight` is not between 0 and 1, or there are fewer than two classes.
    """

    def __init__(
        self,
        z_channels: int,  # noqa: ARG002
        c_channels: int,
        classes: int,
        labels: str,
        weight: float = 0.99,
    ) -> None:
        super().__init__()
        if not 0 <= weight <= 1:
            raise ValueError(f"weight must be between 0 and 1, not {weight}")
        if classes < 2:
            few = counted(classes, "class", "classes")
            raise ValueError(f"label {labels!r} has {few}: similarity needs at least two to tell apart")
        self.labels, self.weight, self.classes = labels, weight, classes
        self.cells = max(1, math.isqrt(PREDICTING // c_channels))
        self.conv = nn.Conv2d(c_channels, c_channels, 3, padding=1, bias=False)
        self.linear = nn.Linear(c_channels * self.cells**2, classes)
        nn.init.zeros_(self.linear.weight)

    def forward(
        self,
        z_BCRS: Tensor,  # noqa: ARG002
        c_BDRS: Tensor,
        generator: torch.Generator | None = None,  # noqa: ARG002
        y: Tensor | None = None,
    ) -> Score:
        """Return the loss, the accuracy of the classifier and the mean squared error of the similarities.

        Raises:
            ValueError: c is not a batch of grids or maps, or y is not (B,).
        """
        if c_BDRS.ndim != 4:
            raise ValueError(
                f"predsim needs maps of images (B, D, R, S), not {tuple(c_BDRS.shape)}; use cross-entropy for rows"
            )
        y_B = one_class_each(y, c_BDRS.shape[:1], f"label {self.labels!r}", "use a label with one class per image")
        cells_BDRS = F.adaptive_avg_pool2d(c_BDRS, self.cells)
        loss, accuracy = cross_entropy(self.linear(cells_BDRS.flatten(1)), y_B)
        mismatch = self._mismatch(self.conv(c_BDRS), y_B)
        loss = (1 - self.weight) * loss + self.weight * mismatch
        return Score(loss, {"accuracy": accuracy, "mismatch": mismatch.detach()})

    def _mismatch(self, h_BDRS: Tensor, y_B: Tensor) -> Tensor:
        """Return the mean squared difference of the two similarity matrices, over pairs of known classes."""
        known_B = y_B != UNKNOWN
        known_BB = known_B[:, None] & known_B
        similarity_BB = similarity(h_BDRS)
        # Cosines of centred one-hot vectors: 1 within a class, −1 / (K − 1) between two.
        same_BB = (y_B[:, None] == y_B).to(similarity_BB.dtype)
        wanted_BB = (self.classes * same_BB - 1) / (self.classes - 1)
        error_BB = (similarity_BB - wanted_BB).square() * known_BB
        return error_BB.sum() / known_BB.sum().clamp(min=1)


def similarity(h_BDRS: Tensor) -> Tensor:
    """Return the cosines (B, B) between images, each centred by the mean of its own features, at least float32.

    The features of a map with more than 3 channels are the standard deviations of its channels.
    """
    with torch.autocast(h_BDRS.device.type, enabled=False):
        h_BDRS = h_BDRS.to(torch.promote_types(h_BDRS.dtype, torch.float32))
        _, D, R, _ = h_BDRS.shape
        features_BF = h_BDRS.flatten(2).std(2) if D > 3 and R > 1 else h_BDRS.flatten(1)
        unit_BF = F.normalize(features_BF - features_BF.mean(1, keepdim=True), dim=1, eps=1e-8)
        return unit_BF @ unit_BF.T
