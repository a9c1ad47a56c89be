"""What a module must offer whose rows depend on everything before them."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Recurrent(nn.Module, ABC):
    """A causal module x (B, C, T) → c (B, D, T) that can be run in pieces, carrying a state."""

    @abstractmethod
    def advance(self, x_BCT: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the rows of this piece and the state to hand to the next one (None at an item's start)."""

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Run over rows that begin where the state is zero."""
        return self.advance(x_BCT, None)[0]
