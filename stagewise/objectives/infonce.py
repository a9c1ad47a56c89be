"""InfoNCE: tell the row k steps ahead from rows drawn elsewhere, given the context so far.

Legend: B items, T rows of each, R = B·T, C channels of z, D channels of c, K prediction steps, N negatives, S
target rows of a chunk, M candidates (the target first, then its negatives; or every row of the batch).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from stagewise.objectives.base import Objective, Score, check_count, linear_maps

# Three ways to draw the rows that a prediction must be told apart from.
#
# Shapes: B items, T rows, N negatives. A row of the batch has the number b·T + t.

Draw = Literal["batch", "sequence", "others"]
DRAWS: tuple[str, ...] = get_args(Draw)


def draw_negatives(
    draw: Draw, items: int, rows: int, negatives: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw the row numbers of every target's negatives, with replacement.

    Args:
        draw: "batch" draws from all rows of the batch (the authors' default; the target itself can be among
            them), "sequence" from the target's own item, "others" from all rows but the target.
        items: B.
        rows: T.
        negatives: N.
        generator: a CPU generator.

    Returns:
        Row numbers (B, T, N) for the targets (b, t).

    Raises:
        ValueError: "others" with a single row in the batch.
    """
    shape = (items, rows, negatives)
    if draw == "sequence":
        first_B11 = torch.arange(items).view(-1, 1, 1) * rows
        return first_B11 + torch.randint(rows, shape, generator=generator)
    if draw == "batch":
        return torch.randint(items * rows, shape, generator=generator)
    if items * rows < 2:
        raise ValueError("negatives other than the positive need at least two rows in the batch")
    target_BT1 = torch.arange(items * rows).view(items, rows, 1)
    drawn = torch.randint(items * rows - 1, shape, generator=generator)
    return drawn + (drawn >= target_BT1)  # skips the target, keeps all others equally likely


# InfoNCE and its gradient in one pass over small chunks: nothing of size rows × negatives × channels is kept.

CHUNK_ROWS = 128  # targets worked on at once: about 12 MiB of temporaries at 512 channels, 12 steps, 10 negatives


class Contrast(torch.autograd.Function):
    """(z, c, W, negatives) → (loss, share of positives picked); gradients are found on the way forward.

    The gradient with respect to z, c and W needs only what a chunk holds while its loss is computed, so both
    are computed together and backward merely scales. Memory is the size of the gradients plus one chunk.
    """

    @staticmethod
    def forward(
        ctx: Any, z_BCT: Tensor, c_BDT: Tensor, W_KCD: Tensor, negatives_BTN: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return loss and picked share, and keep the gradients that will be asked for."""
        need_z, need_c, need_W, _ = ctx.needs_input_grad
        device = z_BCT.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else W_KCD.dtype
        # Everything below chooses its own precision: products in `dtype`, sums and softmax never below fp32.
        with torch.autocast(device, enabled=False):
            z_BTC = z_BCT.transpose(1, 2).to(dtype).contiguous()
            c_BTD = c_BDT.transpose(1, 2).to(dtype).contiguous()
            sums = torch.promote_types(dtype, torch.float32)
            grads = (
                torch.zeros_like(z_BTC, dtype=sums) if need_z else None,
                torch.zeros_like(c_BTD, dtype=sums) if need_c else None,
                torch.zeros_like(W_KCD, dtype=sums) if need_W else None,
            )
            loss, picked = _accumulate(z_BTC, c_BTD, W_KCD.to(dtype), negatives_BTN, grads)
        ctx.grads = grads
        ctx.dtypes = (z_BCT.dtype, c_BDT.dtype, W_KCD.dtype)
        ctx.mark_non_differentiable(picked)
        return loss, picked

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Hand over the gradients, scaled.

        Raises:
            RuntimeError: it was called before.
        """
        # Handed over, not copied: W's gradient is the largest tensor of a step, and must not be there twice.
        if ctx.grads is None:
            raise RuntimeError("InfoNCE's backward runs once per loss: compute the loss again for another one")
        grads, ctx.grads = [g if g is None else g.mul_(scale) for g in ctx.grads], None
        gz, gc, gW = (g if g is None else g.to(d) for g, d in zip(grads, ctx.dtypes, strict=True))
        return (
            None if gz is None else gz.transpose(1, 2),
            None if gc is None else gc.transpose(1, 2),
            gW,
            None,
        )


def _accumulate(
    z_BTC: Tensor,
    c_BTD: Tensor,
    W_KCD: Tensor,
    negatives_BTN: Tensor | None,
    grads: tuple[Tensor | None, Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor]:
    """Add up loss, picked share and (in place) gradients over chunks of target rows."""
    B, T, _ = z_BTC.shape
    K = len(W_KCD)
    gz_BTC, gc_BTD, gW_KCD = grads
    sums = torch.promote_types(z_BTC.dtype, torch.float32)
    steps_K = torch.arange(1, K + 1, device=z_BTC.device)
    # Mean over the B·(T−k) positions that have a target k rows ahead, then over k (eq. 4 and section 3.1).
    weight_K = 1.0 / (K * B * (T - steps_K).to(sums))
    weight_TK = (torch.arange(T, device=z_BTC.device)[:, None] >= steps_K) * weight_K
    # Time runs backwards in `past`, with K rows of zeros before the first: then the contexts of an item's
    # neighbouring targets, 1 to K rows back, are one strided view, and all K products are one batched product.
    past_BUD = F.pad(c_BTD.flip(1), (0, 0, 0, K))
    gpast_BUD = None if gc_BTD is None else torch.zeros_like(past_BUD, dtype=sums)
    rows_RC, grows_RC = z_BTC.flatten(0, 1), None if gz_BTC is None else gz_BTC.flatten(0, 1)
    number_BT = torch.arange(B * T, device=z_BTC.device).view(B, T)
    loss = picked = z_BTC.new_zeros((), dtype=sums)
    for items, chunk in _chunks(B, T):
        first, s = T - chunk.stop + 1, chunk.stop - chunk.start  # `first`: the last target's contexts in `past`
        context_BKDs = past_BUD[items, first : first + s + K - 1].unfold(1, s, 1)
        part, gcontext_KSD = _score(
            rows_RC,
            context_BKDs.permute(1, 0, 3, 2).flatten(1, 2),  # a view, where the chunk lies in one item
            W_KCD,
            number_BT[items, chunk].flip(1).flatten(),
            None if negatives_BTN is None else negatives_BTN[items, chunk].flip(1).flatten(0, 1),
            weight_TK[chunk].flip(0).repeat(len(context_BKDs), 1),
            (grows_RC, gpast_BUD is not None, gW_KCD),
        )
        loss, picked = loss + part[0], picked + part[1]
        if gpast_BUD is not None and gcontext_KSD is not None:
            for k, gcontext_BsD in enumerate(gcontext_KSD.unflatten(1, (-1, s)), first):
                gpast_BUD[items, k : k + s] += gcontext_BsD
    if gc_BTD is not None and gpast_BUD is not None:
        gc_BTD.copy_(gpast_BUD[:, :T].flip(1))
    return loss, picked


def _chunks(items: int, rows: int) -> Iterator[tuple[slice, slice]]:
    """Cut items × targets into parts of about CHUNK_ROWS: several short items, or a part of a long one."""
    group = max(1, CHUNK_ROWS // rows)
    for item in range(0, items, group):
        for start in range(1, rows, CHUNK_ROWS):  # nothing predicts an item's first row
            yield slice(item, min(items, item + group)), slice(start, min(rows, start + CHUNK_ROWS))


def _score(
    rows_RC: Tensor,
    context_KSD: Tensor,
    W_KCD: Tensor,
    targets_S: Tensor,
    negatives_SN: Tensor | None,
    weight_SK: Tensor,
    grads: tuple[Tensor | None, bool, Tensor | None],
) -> tuple[tuple[Tensor, Tensor], Tensor | None]:
    """Score a chunk of targets: loss and picked share; add to the gradients of rows and W, return the contexts'."""
    (R, C), K = rows_RC.shape, len(W_KCD)
    grows_RC, need_context, gW_KCD = grads
    pred_SKC = torch.bmm(context_KSD, W_KCD.transpose(1, 2)).transpose(0, 1)
    if negatives_SN is None:  # every row of the batch is a candidate
        candidate_SM = torch.arange(R, device=rows_RC.device).expand(len(targets_S), R)
        label_SK1 = targets_S[:, None, None].expand(-1, K, 1)
        logits_SKM = (pred_SKC.reshape(-1, C) @ rows_RC.T).view(-1, K, R)
    else:
        candidate_SM = torch.cat([targets_S[:, None], negatives_SN], dim=1)
        label_SK1 = torch.zeros_like(candidate_SM[:, :1, None]).expand(-1, K, 1)
        rows_SMC = rows_RC.index_select(0, candidate_SM.flatten()).view(*candidate_SM.shape, C)
        logits_SKM = torch.bmm(pred_SKC, rows_SMC.transpose(1, 2))
    logp_SKM = F.log_softmax(logits_SKM.to(weight_SK.dtype), dim=2)
    own_SK1 = logp_SKM.gather(2, label_SK1)
    loss = -(own_SK1[..., 0] * weight_SK).sum()
    picked = (picks(own_SK1, logp_SKM, (candidate_SM == targets_S[:, None])[:, None]) * weight_SK).sum()
    if grows_RC is None and gW_KCD is None and not need_context:
        return (loss, picked), None

    glogits_SKM = logp_SKM.exp_()
    glogits_SKM.scatter_(2, label_SK1, own_SK1.exp_().sub_(1))
    glogits_SKM = glogits_SKM.mul_(weight_SK[..., None]).to(rows_RC.dtype)
    if negatives_SN is None:
        if grows_RC is not None:
            grows_RC.addmm_(glogits_SKM.view(-1, R).T.to(grows_RC.dtype), pred_SKC.reshape(-1, C).to(grows_RC.dtype))
        gpred_SKC = (glogits_SKM.view(-1, R) @ rows_RC).view(-1, K, C)
    else:
        if grows_RC is not None:
            grows_SMC = torch.bmm(glogits_SKM.transpose(1, 2), pred_SKC).to(grows_RC.dtype)
            grows_RC.index_add_(0, candidate_SM.flatten(), grows_SMC.flatten(0, 1))
            del grows_SMC
        gpred_SKC = torch.bmm(glogits_SKM, rows_SMC)
        del rows_SMC
    del pred_SKC
    gpred_KSC = gpred_SKC.transpose(0, 1)
    if gW_KCD is not None:
        _add_product(gW_KCD, gpred_KSC.transpose(1, 2), context_KSD)
    return (loss, picked), torch.bmm(gpred_KSC, W_KCD) if need_context else None


def picks(own: Tensor, all_M: Tensor, itself_M: Tensor) -> Tensor:
    """Say where the target (…, 1) scores above all other candidates (…, M).

    A tie is no hit, so that rows that are all the same are never told apart; the target itself may be drawn again.
    """
    beaten_M = own > all_M
    return (beaten_M | itself_M).all(-1) & beaten_M.any(-1)


def _add_product(sum_KCD: Tensor, a_KCS: Tensor, b_KSD: Tensor) -> None:
    """Add a @ b, without a tensor of the sum's size where the types allow it."""
    if sum_KCD.dtype == a_KCS.dtype:
        sum_KCD.baddbmm_(a_KCS, b_KSD)
    else:
        sum_KCD += torch.bmm(a_KCS, b_KSD)


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
