"""Which input rows an output row sees, for any stack of layers.

Output row i of a stack sees the input rows [i·hop + first, i·hop + first + receptive_field).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
