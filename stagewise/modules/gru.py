"""The paper's autoregressive model g_ar: one GRU layer over time.

Shapes: B items, C input channels, D hidden channels, T rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stagewise.modules.recurrent import Recurrent


class GRU(Recurrent):
    """z (B, input_size, T) → c (B, hidden_size, T) with c_0 computed from a zero state.

    Löwe et al. 2019, section 4.2: g_ar is a module of its own on the detached z below it.

    Args:
        input_size: channels of the input.
        hidden_size: channels of the output.
        bptt: False detaches the hidden state at every step, so no gradient crosses time
            (the row "GIM without BPTT" of table 4).
    """

    def __init__(self, input_size: int, hidden_size: int, bptt: bool = True) -> None:
        super().__init__()
        self.gru = nn.GRU(input_size, hidden_size, batch_first=True)
        self.bptt = bptt

    def advance(self, x_BCT: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return c (B, D, T) and the last hidden state (1, B, D)."""
        x_BTC = x_BCT.transpose(1, 2)
        if self.bptt or not torch.is_grad_enabled():
            c_BTD, state = self.gru(x_BTC, state)
            return c_BTD.transpose(1, 2), state
        return self._without_bptt(x_BTC, state)

    def _without_bptt(self, x_BTC: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        # With every previous state detached, all steps are independent once those states are known:
        # one pass without a graph finds them, then all steps run as one batch.
        with torch.no_grad():
            c_BTD, last = self.gru(x_BTC, state)
            first = torch.zeros_like(last) if state is None else state
            before_BTD = torch.cat([first.transpose(0, 1), c_BTD[:, :-1]], dim=1)
        rows = torch.gru_cell(x_BTC.flatten(0, 1), before_BTD.flatten(0, 1), *self.gru.all_weights[0])
        return rows.unflatten(0, x_BTC.shape[:2]).transpose(1, 2), last
