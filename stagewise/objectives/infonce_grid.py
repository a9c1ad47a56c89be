"""InfoNCE on a grid of patches: tell the patch some rows further down from patches drawn elsewhere.

Legend: B images, C channels of z, D channels of c, H × W patches of an image, K prediction steps; P = H·B·W patches
of the batch, row after row; n of them (suffix N) have a target for a step; M candidates of a position: its target,
then its negatives.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from stagewise.objectives.base import Objective, Score, check_count, linear_maps
from stagewise.objectives.infonce import picks
from stagewise.text import counted

Grads = tuple[Tensor | None, Tensor | None, Tensor | None]


class GridInfoNCE(Objective):
    """Score c_{i,j}·(W_k z_{i+skip+k,j}) for k = 1…steps against negatives; mean over positions, then over k.

    Löwe et al. 2019, equations 3 and 4 and section 4.1; van den Oord et al. 2018, section 3.2. Negatives are drawn
    with replacement from the step's targets in all images, the right one among them. The loss of an untrained stage
    is close to ln(1 + negatives).

    Args:
        z_channels: C, channels of the patches that are predicted.
        c_channels: D, channels of the context that predicts.
        steps: K, how many rows down, after those that are skipped.
        skip: rows left out because their patches overlap the one that predicts.
        negatives: how many are drawn for each position.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, z_channels: int, c_channels: int, steps: int = 5, skip: int = 1, negatives: int = 16) -> None:
        super().__init__()
        for name, value, least in (("steps", steps, 1), ("skip", skip, 0), ("negatives", negatives, 1)):
            check_count(name, value, least)
        self.steps, self.skip, self.negatives = steps, skip, negatives
        self.least_rows = skip + steps + 1
        self.W_KDC = linear_maps(steps, c_channels, z_channels)

    def forward(self, z_BCHW: Tensor, c_BDHW: Tensor, generator: torch.Generator | None = None) -> Score:
        """Return the loss with the share of positives picked and `information`: how far it lies below guessing.

        ln(1 + negatives) − loss, in nats; no bound on mutual information, as negatives are patches of the same images.

        Raises:
            ValueError: these are recordings, or the grid has no row that lies `skip + steps` rows below another.
        """
        if z_BCHW.ndim != 4:
            raise ValueError("infonce-grid is for images: recordings take infonce")
        B, _, H, W = z_BCHW.shape
        if self.skip + self.steps >= H:
            raise ValueError(
                f"a grid of {H} rows is too short to predict {counted(self.steps, 'step')} after {self.skip} skipped: "
                f"it needs at least {self.least_rows} rows"
            )
        # Row after row, all images side by side: every target of a step lies equally far behind its position.
        z_PC = z_BCHW.permute(2, 0, 3, 1).flatten(0, 2)
        c_PD = c_BDHW.permute(2, 0, 3, 1).flatten(0, 2)
        counts = [(H - self.skip - k) * B * W for k in range(1, self.steps + 1)]
        drawn = [torch.randint(n, (n, self.negatives), generator=generator).to(z_PC.device) for n in counts]
        # An autograd Function does not see no_grad: it would find W's gradient although nobody can ask for it.
        W_KDC = self.W_KDC if torch.is_grad_enabled() else self.W_KDC.detach()
        loss, picked = _GridContrast.apply(z_PC, c_PD, W_KDC, drawn)
        return Score(loss, {"picked": picked, "information": math.log(1 + self.negatives) - loss.detach()})


class _GridContrast(torch.autograd.Function):
    """(z, c, W, a step's negatives (n, M − 1) each) → (loss, share of positives picked).

    As in `Contrast`, the gradients are found on the way forward, one step at a time, and backward merely scales.
    """

    @staticmethod
    def forward(ctx: Any, z_PC: Tensor, c_PD: Tensor, W_KDC: Tensor, drawn: list[Tensor]) -> tuple[Tensor, Tensor]:
        device = z_PC.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else W_KDC.dtype
        # Products are in `dtype`, sums and softmax never below fp32.
        sums = torch.promote_types(dtype, torch.float32)
        inputs = (z_PC, c_PD, W_KDC)
        gz_PC, gc_PD, gW_KDC = (
            torch.zeros_like(x, dtype=sums) if need else None
            for x, need in zip(inputs, ctx.needs_input_grad, strict=False)
        )
        ctx.dtypes = [x.dtype for x in inputs]
        z_PC, c_PD = z_PC.to(dtype), c_PD.to(dtype)
        loss = picked = z_PC.new_zeros((), dtype=sums)
        with torch.autocast(device, enabled=False):
            for k, drawn_NM in enumerate(drawn):
                n = len(drawn_NM)
                grads = (
                    None if gz_PC is None else gz_PC[-n:],
                    None if gc_PD is None else gc_PD[:n],
                    None if gW_KDC is None else gW_KDC[k],
                )
                part = _step(z_PC[-n:], c_PD[:n], W_KDC[k].to(dtype), drawn_NM, 1 / (n * len(drawn)), grads)
                loss, picked = loss + part[0], picked + part[1]
        ctx.save_for_backward(gz_PC, gc_PD, gW_KDC)
        ctx.mark_non_differentiable(picked)
        return loss, picked

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        grads = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return *(None if g is None else (g * scale).to(dtype) for g, dtype in grads), None


def _step(
    z_NC: Tensor, c_ND: Tensor, W_DC: Tensor, drawn_NM: Tensor, weight: float, grads: Grads
) -> tuple[Tensor, Tensor]:
    """Return a step's loss and picked share, every position with `weight`, and add to the gradients."""
    n = len(drawn_NM)
    gz_NC, gc_ND, gW_DC = grads
    pool_ND = z_NC @ W_DC.T
    candidate_NM = torch.cat([torch.arange(n, device=z_NC.device)[:, None], drawn_NM], dim=1)
    # All products, though few are used: n numbers a position, where the vectors of its candidates would be M·D. That
    # is less as long as n, the positions of the batch, is below M·D: 4,352 for 16 negatives of 256 channels.
    logits_NM = (c_ND @ pool_ND.T).gather(1, candidate_NM)
    logp_NM = F.log_softmax(logits_NM, dim=1, dtype=torch.promote_types(logits_NM.dtype, torch.float32))
    loss = -weight * logp_NM[:, 0].sum()
    picked = weight * picks(logp_NM[:, :1], logp_NM, candidate_NM == candidate_NM[:, :1]).sum()
    if all(g is None for g in grads):
        return loss, picked

    # A target that was drawn twice adds the same number twice, so the order of this sum does not change its bytes.
    glogits_NN = logp_NM.new_zeros(n, n).scatter_add_(1, candidate_NM, logp_NM.exp_())
    glogits_NN.diagonal().sub_(1)
    glogits_NN = glogits_NN.to(z_NC.dtype)
    # The weight comes last, in fp32: it would push small gradients below what a float16 can hold.
    if gc_ND is not None:
        gc_ND.add_(glogits_NN @ pool_ND, alpha=weight)
    gpool_ND = glogits_NN.T @ c_ND
    if gz_NC is not None:
        gz_NC.add_(gpool_ND @ W_DC, alpha=weight)
    if gW_DC is not None:
        gW_DC.add_(gpool_ND.T @ z_NC, alpha=weight)
    return loss, picked
