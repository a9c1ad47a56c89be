"""Deep InfoMax: tell an image's own locations from those of the other images, given the image as a whole.

Legend: B items, C channels of z, D channels of c, L locations of an item (rows, or patches of its grid), U units,
N vectors of any kind.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stagewise.objectives.base import Objective, Score, check_count


class DeepInfoMax(Objective):
    """Score global · local between the mean of c and every location of z, each through a network of its own.

    Hjelm et al. 2019, Learning Deep Representations by Mutual Information Estimation and Maximization, section 3.2,
    with the scores, networks and estimators of its authors' code (github rdevon/DIM). As there, scores are not scaled,
    and vectors after a layer norm have length √U: an untrained stage is certain already, rightly or wrongly, and its
    loss may lie far above ln(1 + (B − 1)·L) (at 100 instead of 7 on photographs; it falls within some ten steps).

    Args:
        z_channels: C, channels of z.
        c_channels: D, channels of c.
        loss: "infonce" (equation 5) or "jsd" (equation 4).
        units: U, channels that both are compared in.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, z_channels: int, c_channels: int, loss: Literal["infonce", "jsd"] = "infonce", units: int = 1024
    ) -> None:
        super().__init__()
        if loss not in ("infonce", "jsd"):
            raise ValueError(f'loss must be "infonce" or "jsd", not {loss!r}')
        check_count("units", units)
        self.loss = loss
        self.local_head, self.global_head = _Head(z_channels, units), _Head(c_channels, units)

    def forward(
        self,
        z_BCL: Tensor,
        c_BDL: Tensor,
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> Score:
        """Return the loss and what it bounds (nats).

        "infonce" gives the share of positives picked and the bound ln(1 + (B − 1)·L) − loss on mutual information;
        "jsd" gives the bound −loss / 2 on the Jensen–Shannon divergence, which is at most ln 2.

        Raises:
            ValueError: there is only one item.
        """
        B = len(z_BCL)
        if B < 2:
            raise ValueError("deep-infomax tells the items of a batch apart: it needs at least 2 of them, not 1")
        local_NU = self.local_head(z_BCL.flatten(2).transpose(1, 2).flatten(0, 1))
        global_BU = self.global_head(c_BDL.flatten(2).mean(2))
        with torch.autocast(z_BCL.device.type, enabled=False):
            # Scores run into the thousands, where a bfloat16 is off by several units.
            sums = torch.promote_types(local_NU.dtype, torch.float32)
            scores_BBL = (global_BU.to(sums) @ local_NU.to(sums).T).unflatten(1, (B, -1))
            return _infonce(scores_BBL) if self.loss == "infonce" else _jsd(scores_BBL)


def _infonce(scores_BBL: Tensor) -> Score:
    """Tell each of an item's own locations from all those of the others."""
    own_BL, same_BB1 = _own(scores_BBL)
    others_BN = scores_BBL.masked_fill(same_BB1, -math.inf).flatten(1)
    total_B1 = others_BN.logsumexp(1, keepdim=True)
    loss = (torch.logaddexp(own_BL, total_B1) - own_BL).mean()
    picked = (own_BL > others_BN.amax(1, keepdim=True)).to(loss.dtype).mean()
    B, L = own_BL.shape
    return Score(loss, {"picked": picked, "information": math.log(1 + (B - 1) * L) - loss.detach()})


def _jsd(scores_BBL: Tensor) -> Score:
    """Tell pairs of an item with its own locations from pairs with others'; softplus(u) is −logsigmoid(−u)."""
    own_BL, same_BB1 = _own(scores_BBL)
    B, L = own_BL.shape
    own = math.log(2) + F.logsigmoid(own_BL).mean()
    others = -F.logsigmoid(-scores_BBL).masked_fill(same_BB1, 0).sum() / (B * (B - 1) * L) - math.log(2)
    loss = others - own
    return Score(loss, {"divergence": -loss.detach() / 2})


def _own(scores_BBL: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores of items with their own locations (B, L), and where they are (B, B, 1)."""
    same_BB1 = torch.eye(len(scores_BBL), dtype=torch.bool, device=scores_BBL.device)[..., None]
    return scores_BBL.diagonal().T, same_BB1


class _Head(nn.Module):
    """x (N, channels) → (N, units): two layers and a linear shortcut, then a layer norm.

    The batch norm keeps no running statistics: the head is used on whole batches alone, and thrown away.
    """

    def __init__(self, channels: int, units: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(channels, units, bias=False),
            nn.BatchNorm1d(units, track_running_stats=False),
            nn.ReLU(inplace=True),
            nn.Linear(units, units),
        )
        self.shortcut = nn.Linear(channels, units, bias=False)
        self.norm = nn.LayerNorm(units)
        if units >= channels:  # it begins as a noisy copy
            nn.init.uniform_(self.shortcut.weight, -0.01, 0.01)
            with torch.no_grad():
                self.shortcut.weight.fill_diagonal_(1)

    def forward(self, x_NC: Tensor) -> Tensor:
        y_NU: Tensor = self.norm(self.body(x_NC) + self.shortcut(x_NC))
        return y_NU
