"""InfoNCE: tell the row k steps ahead from rows drawn elsewhere, given the context so far."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from stagewise.objectives.base import Objective, Score, check_count, linear_maps
from stagewise.objectives.contrast import Contrast
from stagewise.objectives.negatives import DRAWS, Draw, draw_negatives


class InfoNCE(Objective):
    """Score (W_k c_t)·z_{t+k} for k = 1…steps against negatives; mean over positions, then over k.

    Löwe et al. 2019, equations 3 and 4; van den Oord et al. 2018, equation 4. The loss of an untrained
    stage is close to ln(1 + negatives).

    Args:
        z_channels: C, channels of the rows that are predicted.
        c_channels: D, channels of the context that predicts.
        steps: K, how many rows ahead.
        negatives: N rows drawn for each target, or "all" for every other row of the batch.
        draw: where they are drawn from: "batch", "sequence" or "others" (`draw_negatives`); unused by "all".

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        z_channels: int,
        c_channels: int,
        steps: int = 12,
        negatives: int | Literal["all"] = 10,
        draw: Draw = "batch",
    ) -> None:
        super().__init__()
        check_count("steps", steps)
        if negatives != "all" and (not isinstance(negatives, int) or negatives < 1):
            raise ValueError(f'negatives must be at least 1, or "all", not {negatives!r}')
        if negatives != "all":
            check_count("negatives", negatives)
        if draw not in DRAWS:
            raise ValueError(f"draw must be one of {', '.join(DRAWS)}, not {draw!r}")
        self.steps, self.negatives, self.draw = steps, negatives, draw
        self.least_rows = steps + 1
        self.W_KCD = linear_maps(steps, z_channels, c_channels)

    def forward(self, z_BCT: Tensor, c_BDT: Tensor, generator: torch.Generator | None = None) -> Score:
        """Return the loss with the share of positives picked and `information`: how far it lies below guessing.

        ln(1 + N) − loss, in nats. It bounds mutual information from below only where negatives are drawn independently
        of the context (van den Oord et al. 2018); rows of the same recording, as "sequence" draws them and "batch" in
        part, are not.

        Raises:
            ValueError: these are images, or the window has no row that lies `steps` rows ahead of another.
        """
        if z_BCT.ndim != 3:
            raise ValueError("infonce is for recordings: images take infonce-grid")
        B, _, T = z_BCT.shape
        if self.steps >= T:
            raise ValueError(f"a window of {T} rows is too short to predict {self.steps} steps ahead")
        if self.negatives == "all":
            count, negatives_BTN = B * T - 1, None
        else:
            count = self.negatives
            negatives_BTN = draw_negatives(self.draw, B, T, count, generator).to(z_BCT.device)
        # An autograd Function does not see no_grad: it would find W's gradient although nobody can ask for it.
        W_KCD = self.W_KCD if torch.is_grad_enabled() else self.W_KCD.detach()
        loss, picked = Contrast.apply(z_BCT, c_BDT, W_KCD, negatives_BTN)
        return Score(loss, {"picked": picked, "information": math.log(1 + count) - loss.detach()})
