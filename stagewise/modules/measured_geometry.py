"""What a module does to the rows of its input, found by trying it: its geometry and its channels."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from bisect import bisect_left

import torch
from torch import Tensor, nn

from stagewise.errors import ConfigError
from stagewise.modules.geometry import Geometry, Layer


class Recurrent(nn.Module, ABC):
    """A causal module x (B, C, T) → c (B, D, T) that can be run in pieces, carrying a state."""

    @abstractmethod
    def advance(self, x_BCT: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the rows of this piece and the state to hand to the next one (None at an item's start)."""

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Run over rows that begin where the state is zero."""
        return self.advance(x_BCT, None)[0]


# Each row depends on the row below it alone; anything else that is like this is found by trying.
POINTWISE = (
    nn.Identity,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Dropout,
    nn.BatchNorm1d,
)


def geometry_of(module: nn.Module, channels: int, where: str = "module") -> Geometry:
    """Return a module's geometry: from the arguments of convolutions, else found by trying it.

    Args:
        module: maps (B, channels, T) to (B, C', T').
        channels: channels of its input.
        where: what to call the module in an error.

    Raises:
        ConfigError: the module's rows do not depend on a bounded window, or it takes no (B, C, T) input.
    """
    # A sub-class with a forward of its own does something else, and is tried.
    forward = type(module).forward
    if forward is nn.Sequential.forward:
        geometry = Geometry()
        for name, child in module.named_children():
            geometry += geometry_of(child, channels, f"{where}.{name}")
            channels = out_channels(child, channels, f"{where}.{name}")
        return geometry
    if isinstance(module, Recurrent):
        return Geometry(recurrent=True)
    if type(module) in POINTWISE:
        return Geometry()
    if (
        isinstance(module, nn.Conv1d)
        and forward is nn.Conv1d.forward
        and module.padding_mode == "zeros"
        and isinstance(module.padding, tuple)
        and module.stride[0] > 0 <= module.padding[0]  # torch itself refuses others when they are tried
    ):
        kernel = (module.kernel_size[0] - 1) * module.dilation[0] + 1
        layer = Layer(kernel, module.stride[0], module.padding[0], module.padding[0])
    else:
        layer = _found(module, channels, where)
    if max(layer.left, layer.right) >= layer.kernel:
        raise ConfigError(
            f"{where}: {type(module).__name__} has rows that see nothing but padding. Make its padding "
            f"smaller than its kernel ({layer.kernel} rows)."
        )
    return Geometry((layer,))


def out_channels(module: nn.Module, channels: int, where: str = "module") -> int:
    """Count the channels of a module's output, without computing it.

    Raises:
        ConfigError: it does not map (B, C, T) to (B, C', T').
    """
    if type(module).forward is nn.Sequential.forward:
        for name, child in module.named_children():
            channels = out_channels(child, channels, f"{where}.{name}")
        return channels
    if type(module) in POINTWISE and getattr(module, "num_features", channels) == channels:
        return channels
    if isinstance(module, nn.Conv1d) and type(module).forward is nn.Conv1d.forward and module.in_channels == channels:
        return module.out_channels
    module = copy.deepcopy(module).eval()  # a batch norm counts even what has no data
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        if isinstance(module, Recurrent):  # two rows cost less than to import what computes without data
            return int(_apply(module, torch.zeros(1, channels, 2), where).shape[1])
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode(allow_non_fake_inputs=True):
            return int(_apply(module, torch.empty(1, channels, 4096), where).shape[1])


def _apply(module: nn.Module, x: torch.Tensor, where: str) -> torch.Tensor:
    try:
        y = module(x)
    except Exception as error:  # whatever a user's module raises
        raise ConfigError(
            f"{where}: {type(module).__name__} does not take an input of shape (B, {x.shape[1]}, T): "
            f"{error}. Make it take {x.shape[1]} channels, of rows as conv1d and gru do."
        ) from error
    if not isinstance(y, torch.Tensor) or y.ndim != 3:
        raise ConfigError(
            f"{where}: {type(module).__name__} must return one tensor of shape (B, C, T). "
            "Wrap it in a class of your own that does."
        )
    return y


@torch.no_grad()
def _found(module: nn.Module, channels: int, where: str) -> Layer:
    """Find the window of a local module: a NaN in its input spoils exactly the rows that see it."""
    module = copy.deepcopy(module).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for length in (64, 512, 4096):
            layer = _try_length(module, channels, length, where)
            if layer is not None:
                return layer
    raise ConfigError(
        f"{where}: the rows of {type(module).__name__} do not depend on a bounded window of its input, so it "
        "cannot be computed in pieces. Use a local module, or derive from stagewise.modules.Recurrent."
    )


def _try_length(module: nn.Module, channels: int, length: int, where: str) -> Layer | None:
    """Measure two rows in the middle of one input, then check the result on all rows and other lengths."""
    x = torch.randn(1, channels, length)
    try:
        rows = _apply(module, x, where).shape[2]
    except ConfigError:
        if length < 4096:
            return None  # too short for this module
        raise
    middle = rows // 2

    def spoilt(begin: int, end: int) -> list[bool]:
        y = _apply(module, x.index_fill(2, torch.arange(begin, end), torch.nan), where)
        hit: list[bool] = y[0].isnan().any(0).tolist()
        return hit

    def first(row: int) -> int:
        return bisect_left(range(length), True, key=lambda j: spoilt(0, j + 1)[row])

    def end(row: int) -> int:
        return length - bisect_left(range(length), True, key=lambda j: spoilt(length - 1 - j, length)[row])

    if rows < 8 or spoilt(0, 1)[middle] or spoilt(length - 1, length)[middle]:
        return None  # the ends of the input may matter everywhere
    stride, kernel = first(middle + 1) - first(middle), end(middle) - first(middle)
    left = middle * stride - first(middle)
    if stride < 1 or kernel < 1 or left < 0:
        return None
    for cut in (length // 3, length // 2):
        sees = [(row * stride - left, row * stride - left + kernel) for row in range(rows)]
        if spoilt(0, cut) != [a < cut for a, _ in sees] or spoilt(cut, length) != [b > cut for _, b in sees]:
            return None
    lengths = range(length, length + 2 * stride + 2)
    counts = [_apply(module, torch.zeros(1, channels, n), where).shape[2] for n in lengths]
    # One row count leaves `right` open by less than a stride; the counts of more lengths settle it.
    right = max(0, (rows - 1) * stride + kernel - left - length)
    candidates = (Layer(kernel, stride, left, right + more) for more in range(stride))
    return next((layer for layer in candidates if [layer.rows(n) for n in lengths] == counts), None)
