"""What an operator allocates inside and frees before it returns, where that is large enough to matter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def workspace_bytes(func: Any, args: tuple[Any, ...], result: Any) -> int:
    """Return the bytes an operator needs beyond its inputs and results.

    Only oneDNN's convolutions on a CPU are known here (seen in torch's profiler, torch 2.11): they copy their
    operands into a blocked layout and their results back out of it.
    """
    if func is torch.ops.aten.convolution.default and args[0].device.type == "cpu":
        return sum(_bytes(t) for t in (args[0], args[1], result))
    if func is torch.ops.aten.convolution_backward.default and args[0].device.type == "cpu":
        gx, gw, _ = result
        if isinstance(gx, Tensor):
            return 2 * _bytes(gx)
        return sum(_bytes(t) for t in (args[0], args[1])) + (_bytes(gw) if isinstance(gw, Tensor) else 0)
    return 0


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
