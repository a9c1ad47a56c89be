"""PredSim: predict the class, and be as similar to the other images of the batch as their classes are.

Legend: B images, D channels of c, R × S patches of an image's grid, or pixels of its map; F features, K classes.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stagewise.objectives.base import Score, Supervised
from stagewise.objectives.cross_entropy import UNKNOWN, cross_entropy, one_class_each
from stagewise.show import counted

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
