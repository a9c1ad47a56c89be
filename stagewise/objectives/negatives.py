"""Three ways to draw the rows that a prediction must be told apart from.

Shapes: B items, T rows, N negatives. A row of the batch has the number b·T + t.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

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
