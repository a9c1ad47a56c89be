"""What an operator allocates inside and frees before it returns, where that is large enough to matter."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def workspace_bytes(func: Any, args: tuple[Any, ...], result: Any) -> int:
    """Return the bytes an operator needs beyond its inputs and results.

    Only oneDNN's convolutions on a CPU are known here (seen in torch's profiler, torch 2.11): they copy their
    operands into a blocked layout and their results back out of it, one product after the other.
    """
    if func is torch.ops.aten.convolution.default and args[0].device.type == "cpu":
        x, weight = (_bytes(t) for t in args[:2])
        return weight if _channels_last(args[0]) else max(x + weight, _bytes(result))
    if func is torch.ops.aten.convolution_backward.default and args[0].device.type == "cpu":
        gy, x = (_bytes(t) for t in args[:2])
        gx, gw = (_bytes(t) if isinstance(t, Tensor) else 0 for t in result[:2])
        if _channels_last(args[1]):
            return gw if _channels_last(args[0]) else max(gw, gy)
        # gx is found first, when there is no gw yet; gw needs x and gy, then its own copy.
        return max(gy + _scratch(gx, gy, args), 2 * gx - gw, x + gy, gw)
    return 0


def _channels_last(x: Tensor) -> bool:
    """Say whether an image's channels lie side by side: convolutions then need no copies of it."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def _scratch(gx: int, gy: int, args: tuple[Any, ...]) -> int:
    """Return what each thread works in while it finds the gradient of an item."""
    if gx == 0:
        return 0
    items, _, *rows = args[1].shape
    strides: list[int] = args[4]
    if any(n % stride for n, stride in zip(rows, strides, strict=True)):
        gy += gx * math.prod(strides)  # rows in groups of a stride; a last group that is not whole costs this
    return torch.get_num_threads() * gy // int(items)


def _bytes(tensor: Tensor) -> int:
    return int(tensor.numel() * tensor.element_size())
