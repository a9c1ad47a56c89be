"""The arguments of a stack of layers: one number, or one for each layer, and none that is no size."""

from __future__ import annotations

from collections.abc import Sequence

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
