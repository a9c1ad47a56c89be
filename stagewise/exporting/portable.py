"""The same numbers as a frozen encoder's, in a form that can be written down as a program for inputs of any size.

Legend: B items, C or D channels, T rows, H × W pixels, R × S grid of patches, P pixels of a patch's side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stagewise.modules.gru import GRU
from stagewise.modules.stage_module import StageModule
from stagewise.runs.frozen import FrozenEncoder, FrozenPatches


class PortableGRU(nn.Module):
    """z (B, C, T) → c (B, D, T), as a loop: torch's own GRU is unrolled when it is traced, for one length alone.

    Args:
        module: what it is made of; its weights are shared.
    """

    def __init__(self, module: GRU) -> None:
        super().__init__()
        weights = dict(module.gru.named_parameters())
        self.weight_in, self.bias_in = weights["weight_ih_l0"], weights["bias_ih_l0"]
        self.weight_state, self.bias_state = weights["weight_hh_l0"], weights["bias_hh_l0"]

    def forward(self, z_BCT: Tensor) -> Tensor:
        """Return c."""
        from torch._higher_order_ops.scan import scan

        def step(state_BD: Tensor, given_BG: Tensor) -> tuple[Tensor, Tensor]:
            reset_BD, update_BD, new_BD = given_BG.chunk(3, -1)
            from_reset_BD, from_update_BD, from_new_BD = F.linear(state_BD, self.weight_state, self.bias_state).chunk(
                3, -1
            )
            reset_BD, update_BD = torch.sigmoid(reset_BD + from_reset_BD), torch.sigmoid(update_BD + from_update_BD)
            new_BD = torch.tanh(new_BD + reset_BD * from_new_BD)
            state_BD = (state_BD - new_BD) * update_BD + new_BD
            return state_BD, state_BD.clone()

        given_TBG = F.linear(z_BCT.permute(2, 0, 1), self.weight_in, self.bias_in)
        first_BD = z_BCT.new_zeros(z_BCT.shape[0], self.weight_state.shape[1])
        c_TBD: Tensor = scan(step, first_BD, given_TBG, dim=0)[1]
        return c_TBD.permute(1, 2, 0)


class PortableRows(nn.Module):
    """x (B, C, T) → representation (B, D, rows), in float32 throughout.

    Args:
        encoder: what it is made of; its weights are shared.
    """

    def __init__(self, encoder: FrozenEncoder) -> None:
        super().__init__()
        blocks = [block.module for stage in _stages(encoder) for block in stage.blocks]
        self.parts = nn.ModuleList([PortableGRU(each) if isinstance(each, GRU) else each for each in blocks])

    def forward(self, x_BCT: Tensor) -> Tensor:
        """Return the representation."""
        for part in self.parts:
            x_BCT = part(x_BCT)
        return x_BCT


class PortablePatches(nn.Module):
    """x (B, C, H, W) → the mean of every patch (B, D, R, S), all patches of the images at once, in float32.

    An image that is one patch alone gives its map (B, D, H', W').

    Args:
        encoder: what it is made of; its weights are shared.
    """

    def __init__(self, encoder: FrozenPatches) -> None:
        super().__init__()
        self.parts = nn.ModuleList([stage.encoder for stage in _stages(encoder) if stage.encoder is not None])
        self.patch, self.stride = encoder.receptive_field, encoder.hop

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the representation."""
        if not self.patch:
            return self._encode(x_BCHW)
        x_BCRSPP = x_BCHW.unfold(2, self.patch, self.stride).unfold(3, self.patch, self.stride)
        x_BRSCPP = x_BCRSPP.permute(0, 2, 3, 1, 4, 5)
        B, R, S = x_BRSCPP.shape[:3]
        z_ND = self._encode(x_BRSCPP.flatten(0, 2)).mean((2, 3))
        return z_ND.reshape(B, R, S, -1).permute(0, 3, 1, 2)

    def _encode(self, x_NCHW: Tensor) -> Tensor:
        for part in self.parts:
            x_NCHW = part(x_NCHW)
        return x_NCHW


def portable(encoder: FrozenEncoder) -> nn.Module:
    """Return an encoder's portable form."""
    made = PortablePatches(encoder) if isinstance(encoder, FrozenPatches) else PortableRows(encoder)
    return made.eval()


def _stages(encoder: FrozenEncoder) -> list[StageModule]:
    stages = []
    for stage in encoder.stages:
        assert isinstance(stage, StageModule)
        stages.append(stage)
    return stages
