"""Which input rows an output row sees, for any stack of layers: known from its arguments, or found by trying.

Output row i of a stack sees the input rows [i·hop + first, i·hop + first + receptive_field).
"""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stagewise.errors import ConfigError

# What a module must offer whose rows depend on everything before them.


class Recurrent(nn.Module, ABC):
    """A causal module x (B, C, T) → c (B, D, T) that can be run in pieces, carrying a state."""

    @abstractmethod
    def advance(self, x_BCT: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the rows of this piece and the state to hand to the next one (None at an item's start)."""

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Run over rows that begin where the state is zero."""
        return self.advance(x_BCT, None)[0]


# The arguments of a stack of layers: one number, or one for each layer, and none that is no size.

Numbers = int | Sequence[int]


def check_number(name: str, value: object, least: int = 1) -> None:
    """Refuse what is no size.

    Raises:
        ValueError: it is not a whole number, or below `least`.
    """
    if not isinstance(value, int):
        raise ValueError(f"{name} must be a whole number, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value}")


def per_layer(of: str = "layer", **given: Numbers) -> list[tuple[int, ...]]:
    """Return the numbers of each layer, in the order of the arguments; `padding` may be 0, the others may not.

    Args:
        of: what a list has one number for.
        **given: one number, or a list of them.

    Raises:
        ValueError: the lists differ in length or are empty, or hold something else than sizes.
    """
    lists = {name: list(value) for name, value in given.items() if isinstance(value, list | tuple)}
    counts = {name: len(values) for name, values in lists.items()}
    if len(set(counts.values())) > 1 or 0 in counts.values():
        raise ValueError(f"one number per {of} is needed in every list, but the lists have {counts} numbers")
    depth = max(counts.values(), default=1)
    columns = {name: lists.get(name, [value] * depth) for name, value in given.items()}
    for name, values in columns.items():
        for value in values:
            check_number(name, value, 0 if name == "padding" else 1)
    return list(zip(*columns.values(), strict=True))


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


@dataclass(frozen=True)
class Layer:
    """One sliding window: `kernel` rows every `stride` rows, with zeros added at an item's true ends."""

    kernel: int
    stride: int = 1
    left: int = 0
    right: int = 0

    def rows(self, length: int) -> int:
        """Count the output rows for `length` input rows."""
        if length == 0:
            return 0  # nothing but padding
        return max(0, (length + self.left + self.right - self.kernel) // self.stride + 1)


@dataclass(frozen=True)
class Geometry:
    """A stack of layers, first to last; the empty stack hands rows through."""

    layers: tuple[Layer, ...] = ()
    recurrent: bool = False  # rows also depend on all earlier rows, through a state

    @property
    def hop(self) -> int:
        """Input rows between neighbouring output rows."""
        return math.prod(layer.stride for layer in self.layers)

    @property
    def receptive_field(self) -> int:
        """Input rows that one output row sees (within the state's reach, if there is one)."""
        field, hop = 1, 1
        for layer in self.layers:
            field += (layer.kernel - 1) * hop
            hop *= layer.stride
        return field

    @property
    def first(self) -> int:
        """The first input row that output row 0 sees; negative when it begins in the padding."""
        first, hop = 0, 1
        for layer in self.layers:
            first -= layer.left * hop
            hop *= layer.stride
        return first

    @property
    def centre(self) -> float:
        """The centre of what output row 0 sees, in input rows."""
        return self.first + (self.receptive_field - 1) / 2

    def rows(self, length: int) -> int:
        """Count the output rows of an item of `length` input rows."""
        for layer in self.layers:
            length = layer.rows(length)
        return length

    def __add__(self, above: Geometry) -> Geometry:
        return Geometry(self.layers + above.layers, self.recurrent or above.recurrent)

    def piece(self, start: int, stop: int, length: int) -> tuple[int, int, int]:
        """Find the input rows [begin, end) that give the output rows [start, stop) of an item.

        The piece begins at a multiple of `hop` and holds everything those rows see, so the module, run on the
        piece with its own padding, yields them exactly, after `skip` rows that the cut has spoilt.

        Returns:
            begin, end, skip.
        """
        begin = max(0, start + self.first // self.hop) * self.hop
        end = min(length, (stop - 1) * self.hop + self.first + self.receptive_field)
        return begin, end, start - begin // self.hop

    def window_span(self, rows: int) -> int:
        """Count the input rows of a training window of `rows` output rows (the same for every window)."""
        return (rows - 1 - self.first // self.hop) * self.hop + self.first + self.receptive_field

    def window_starts(self, length: int, rows: int) -> int:
        """Count the places where a training window of `rows` output rows fits into an item.

        The last rows of an item see padding to their right; windows of one shape leave them out.
        """
        if self.window_span(rows) > length:
            return 0
        return max(0, (length - self.first - self.receptive_field) // self.hop + 2 - rows)


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
