"""What a module must offer that relates the patches of a crop to each other."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class GridContext(nn.Module, ABC):
    """A context over the grid of a crop's patches; it serves the objective alone, what the stage hands on is z.

    Attributes:
        out_channels: D, channels of c.
    """

    out_channels: int

    @abstractmethod
    def forward(self, z_BCRS: Tensor) -> Tensor:
        """Return c (B, D, R, S) for z (B, C, R, S): B crops, each a grid of R × S patches."""
