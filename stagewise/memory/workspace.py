"""What an operator allocates inside and frees before it returns, where that is large enough to matter."""

from __future__ import annotations

from collections.abc import Hashable
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from stagewise.memory.measure import allocations

_ITEMS = {  # arguments that have a row for every item of the batch
    torch.ops.aten.convolution.default: (0,),
    torch.ops.aten.convolution_backward.default: (0, 1),
}
_known: dict[Hashable, list[int]] = {}


def workspace_bytes(func: Any, args: tuple[Any, ...]) -> int:
    """Return the bytes an operator needs beyond its inputs and results.

    Only convolutions on a CPU are known to need much. How much follows from the algorithm that oneDNN takes, and that
    from the processor, the number of threads and the shape: the operator is run on so few items that all threads have
    something to do, and on twice as many. What it allocates grows linearly from there.
    """
    if func not in _ITEMS or args[0].device.type != "cpu":
        return 0
    items, few = len(args[0]), torch.get_num_threads()
    sizes = _allocations(func, args, min(items, 2 * few))
    if items > 2 * few:
        fewer = _allocations(func, args, few)
        if len(fewer) == len(sizes):
            sizes = [size + (size - less) * (items - 2 * few) // few for size, less in zip(sizes, fewer, strict=True)]
        else:  # another algorithm
            sizes = _allocations(func, args, items)
    return max(accumulate(sizes), default=0) - sum(sizes)


def _allocations(func: Any, args: tuple[Any, ...], items: int) -> list[int]:
    """Run an operator on zeros of the same shapes, but for the number of items, and follow what it allocates."""
    shapes = []
    for number, value in enumerate(args):
        if isinstance(value, Tensor):
            shape = (items, *value.shape[1:]) if number in _ITEMS[func] else tuple(value.shape)
            shapes.append((shape, value.stride(), value.dtype))
        else:
            shapes.append(tuple(value) if isinstance(value, list) else value)
    key = (func, *shapes, torch.get_num_threads())
    if key not in _known:
        with _disable_current_modes(), torch.no_grad():
            given = [
                torch.empty_strided(shape[0], shape[1], dtype=shape[2]).zero_() if isinstance(value, Tensor) else value
                for value, shape in zip(args, shapes, strict=True)
            ]
            with allocations() as sizes:
                result = func(*given)  # alive until all is counted
        _known[key] = sizes
        del result
    return _known[key]
