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

CHUNK_ROWS = 128  # targets worked on at once: 12 MiB of temporaries at 512 channels, 12 steps, 10 negatives


class Contrast(torch.autograd.Function):
    """(z, c, W, negatives) → (loss, share of positives picked); gradients are found on the way forward.

    The gradient with respect to z, c and W needs only what a chunk holds while its loss is computed, so both
    are computed together and backward merely scales. Memory is the size of the gradients plus one chunk.
    """

    @staticmethod
    def forward(
        ctx: Any, z_BCT: Tensor, c_BDT: Tensor, W_KCD: Tensor, negatives_BTN: Tensor | None
    ) -> tuple[Tensor, Tensor]:
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
        # Handed over, not copied: W's gradient is the largest tensor of a step, and must not be there twice.
        if ctx.grads is None:
            raise RuntimeError(
                "InfoNCE's backward runs once per loss: compute the loss again for another one"
            )
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
    B, T, C = z_BTC.shape
    K = W_KCD.shape[0]
    rows_RC = z_BTC.view(B * T, C)
    sums = torch.promote_types(z_BTC.dtype, torch.float32)
    loss = rows_RC.new_zeros((), dtype=sums)
    picked = rows_RC.new_zeros((), dtype=sums)
    targets_BT = torch.arange(B * T, device=z_BTC.device).view(B, T)
    # Mean over the B·(T−k) positions that have a target k rows ahead, then over k (eq. 4 and section 3.1).
    steps = torch.arange(1, K + 1, device=z_BTC.device)
    weight_K = 1.0 / (K * B * (T - steps).to(sums))

    width = max(1, CHUNK_ROWS // B)
    for start in range(1, T, width):
        stop = min(T, start + width)
        target_S = targets_BT[:, start:stop].reshape(-1)
        pred_SKC = _predict(c_BTD, W_KCD, start, stop)
        if negatives_BTN is None:  # every row of the batch is a candidate
            candidate_SM, label_SK = None, target_S[:, None].expand(-1, K)
            logits_SKM = (pred_SKC.view(-1, C) @ rows_RC.T).view(-1, K, B * T)
        else:
            candidate_SM = torch.cat([target_S[:, None], negatives_BTN[:, start:stop].flatten(0, 1)], dim=1)
            label_SK = torch.zeros(len(target_S), K, dtype=torch.long, device=z_BTC.device)
            rows_SMC = rows_RC.index_select(0, candidate_SM.flatten()).view(*candidate_SM.shape, C)
            logits_SKM = torch.bmm(pred_SKC, rows_SMC.transpose(1, 2))
        logp_SKM = F.log_softmax(logits_SKM.to(sums), dim=2)
        own_SK1 = logp_SKM.gather(2, label_SK[..., None])
        exists_SK = (torch.arange(start, stop, device=z_BTC.device)[:, None] >= steps).repeat(B, 1)
        weight_SK = exists_SK * weight_K
        loss -= (own_SK1[..., 0] * weight_SK).sum()
        picked += ((own_SK1 >= logp_SKM).all(2) * weight_SK).sum()

        if not any(g is not None for g in grads):
            continue
        glogits_SKM = logp_SKM.exp_()
        glogits_SKM.scatter_add_(2, label_SK[..., None], torch.full_like(own_SK1, -1.0))
        glogits_SKM = (glogits_SKM * weight_SK[..., None]).to(z_BTC.dtype)
        if candidate_SM is None:
            gpred_SKC = (glogits_SKM.view(-1, B * T) @ rows_RC).view(-1, K, C)
        else:
            gpred_SKC = torch.bmm(glogits_SKM, rows_SMC)
        _add_to_context(gpred_SKC, c_BTD, W_KCD, start, stop, grads[1], grads[2])
        if grads[0] is not None:
            grad_RC = grads[0].view(B * T, C)
            if candidate_SM is None:
                grad_RC += glogits_SKM.view(-1, B * T).T @ pred_SKC.view(-1, C)
            else:
                grows_SMC = torch.bmm(glogits_SKM.transpose(1, 2), pred_SKC)
                grad_RC.index_add_(0, candidate_SM.flatten(), grows_SMC.flatten(0, 1).to(sums))
    return loss, picked


def _predict(c_BTD: Tensor, W_KCD: Tensor, start: int, stop: int) -> Tensor:
    """Return W_k c_{t−k} (S, K, C) for the targets t in [start, stop); zeros where t < k."""
    B, _, _ = c_BTD.shape
    K, C, _ = W_KCD.shape
    pred_BsKC = c_BTD.new_zeros(B, stop - start, K, C)
    for k in range(1, min(K, stop - 1) + 1):
        first = max(start, k)
        pred_BsKC[:, first - start :, k - 1] = c_BTD[:, first - k : stop - k] @ W_KCD[k - 1].T
    return pred_BsKC.flatten(0, 1)


def _add_to_context(
    gpred_SKC: Tensor,
    c_BTD: Tensor,
    W_KCD: Tensor,
    start: int,
    stop: int,
    gc_BTD: Tensor | None,
    gW_KCD: Tensor | None,
) -> None:
    """Add the predictions' gradient to those of c and W, undoing `_predict`."""
    B, _, D = c_BTD.shape
    K, C, _ = W_KCD.shape
    gpred_BsKC = gpred_SKC.view(B, stop - start, K, C)
    for k in range(1, min(K, stop - 1) + 1):
        first = max(start, k)
        g_BnC = gpred_BsKC[:, first - start :, k - 1]
        if gc_BTD is not None:
            gc_BTD[:, first - k : stop - k] += g_BnC @ W_KCD[k - 1]
        if gW_KCD is not None:
            c_nD = c_BTD[:, first - k : stop - k].reshape(-1, D)
            gW_KCD[k - 1] += g_BnC.reshape(-1, C).T @ c_nD
