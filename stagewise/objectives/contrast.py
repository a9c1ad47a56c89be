"""InfoNCE and its gradient in one pass over small chunks: nothing of size rows × negatives × channels is kept.

Legend: B items, T rows, C channels of z, D channels of c, K prediction steps, N negatives, S target rows of a
chunk (s of every item), M candidates (the target first, then its negatives; or every row of the batch).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

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
    # Time runs backwards in `past`, with K rows of zeros before the first: then the contexts of neighbouring
    # targets, 1 to K rows back, are one strided view, and all K products are one batched product.
    past_BUD = F.pad(c_BTD.flip(1), (0, 0, 0, K))
    gpast_BUD = None if gc_BTD is None else torch.zeros_like(past_BUD, dtype=sums)
    loss = picked = z_BTC.new_zeros((), dtype=sums)
    width = max(1, CHUNK_ROWS // B)
    for start in range(1, T, width):
        chunk = slice(start, min(T, start + width))
        part = _score(z_BTC, past_BUD, W_KCD, negatives_BTN, weight_TK, chunk, (gz_BTC, gpast_BUD, gW_KCD))
        loss, picked = loss + part[0], picked + part[1]
    if gc_BTD is not None and gpast_BUD is not None:
        gc_BTD.copy_(gpast_BUD[:, :T].flip(1))
    return loss, picked


def _score(
    z_BTC: Tensor,
    past_BUD: Tensor,
    W_KCD: Tensor,
    negatives_BTN: Tensor | None,
    weight_TK: Tensor,
    chunk: slice,
    grads: tuple[Tensor | None, Tensor | None, Tensor | None],
) -> tuple[Tensor, Tensor]:
    """Return loss and picked share of the targets in one chunk of time, and add to the gradients."""
    B, T, C = z_BTC.shape
    K, s = len(W_KCD), chunk.stop - chunk.start
    rows_RC = z_BTC.view(B * T, C)
    gz_BTC, gpast_BUD, gW_KCD = grads
    first = T - chunk.stop + 1  # where the contexts of the chunk's last target begin in `past`
    target_S = torch.arange(B * T, device=z_BTC.device).view(B, T)[:, chunk].flip(1).reshape(-1)
    weight_SK = weight_TK[chunk].flip(0).repeat(B, 1)
    context_BsDK = past_BUD[:, first : first + s + K - 1].unfold(1, K, 1)
    context_KSD = context_BsDK.permute(3, 0, 1, 2).reshape(K, B * s, -1)
    pred_SKC = torch.bmm(context_KSD, W_KCD.transpose(1, 2)).transpose(0, 1)
    if negatives_BTN is None:  # every row of the batch is a candidate
        label_SK = target_S[:, None].expand(-1, K)
        logits_SKM = (pred_SKC.reshape(-1, C) @ rows_RC.T).view(-1, K, B * T)
    else:
        candidate_SM = torch.cat([target_S[:, None], negatives_BTN[:, chunk].flip(1).flatten(0, 1)], dim=1)
        label_SK = torch.zeros(B * s, K, dtype=torch.long, device=z_BTC.device)
        rows_SMC = rows_RC.index_select(0, candidate_SM.flatten()).view(*candidate_SM.shape, C)
        logits_SKM = torch.bmm(pred_SKC, rows_SMC.transpose(1, 2))
    logp_SKM = F.log_softmax(logits_SKM.to(weight_TK.dtype), dim=2)
    own_SK1 = logp_SKM.gather(2, label_SK[..., None])
    loss = -(own_SK1[..., 0] * weight_SK).sum()
    picked = ((own_SK1 >= logp_SKM).all(2) * weight_SK).sum()
    if all(g is None for g in grads):
        return loss, picked

    glogits_SKM = logp_SKM.exp_()
    glogits_SKM.scatter_add_(2, label_SK[..., None], torch.full_like(own_SK1, -1.0))
    glogits_SKM = glogits_SKM.mul_(weight_SK[..., None]).to(z_BTC.dtype)
    if negatives_BTN is None:
        if gz_BTC is not None:
            gz_BTC.view(B * T, C).addmm_(
                glogits_SKM.view(-1, B * T).T.to(gz_BTC.dtype), pred_SKC.reshape(-1, C).to(gz_BTC.dtype)
            )
        gpred_SKC = (glogits_SKM.view(-1, B * T) @ rows_RC).view(-1, K, C)
    else:
        if gz_BTC is not None:
            grows_SMC = torch.bmm(glogits_SKM.transpose(1, 2), pred_SKC).to(gz_BTC.dtype)
            gz_BTC.view(B * T, C).index_add_(0, candidate_SM.flatten(), grows_SMC.flatten(0, 1))
            del grows_SMC
        gpred_SKC = torch.bmm(glogits_SKM, rows_SMC)
        del rows_SMC
    del pred_SKC
    gpred_KSC = gpred_SKC.transpose(0, 1)
    if gW_KCD is not None:
        _add_product(gW_KCD, gpred_KSC.transpose(1, 2), context_KSD)
    del context_KSD
    if gpast_BUD is not None:
        for k, gcontext_BsD in enumerate(torch.bmm(gpred_KSC, W_KCD).view(K, B, s, -1), first):
            gpast_BUD[:, k : k + s] += gcontext_BsD
    return loss, picked


def _add_product(sum_KCD: Tensor, a_KCS: Tensor, b_KSD: Tensor) -> None:
    """Add a @ b, without a tensor of the sum's size where the types allow it."""
    if sum_KCD.dtype == a_KCS.dtype:
        sum_KCD.baddbmm_(a_KCS, b_KSD)
    else:
        sum_KCD += torch.bmm(a_KCS, b_KSD)
