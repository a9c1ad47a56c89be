"""Mel-frequency cepstral coefficients: the hand-made features that learned ones are compared with.

Legend: B items, T samples or rows, C coefficients.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stagewise.libraries import load

FILTERS = 40


class Mfcc(nn.Module):
    """x (B, 1, T) samples → (B, coefficients · (1 + deltas), T'), without a parameter and without a gradient.

    Löwe et al. 2019, table 3, "MFCC features" (10 ms between rows; the paper says no more). The other settings are
    the usual ones: a Hann window of 25 ms, 40 mel filters, first and second differences over five rows. The logarithm
    has a floor (power + 10⁻⁶) in place of a distance from the loudest row, which would be a part of every other one.
    Row i is centred where that of the paper's encoder is, an eighth of a hop after sample i·hop (by half a sample),
    and an item of any length has as many rows as there.

    Args:
        coefficients: numbers that describe a spectrum, from its level to its finer shape.
        deltas: how many orders of differences between rows follow.
        sample_rate: samples per second.
        window: samples that a spectrum is taken from.
        hop: samples between rows.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, coefficients: int = 13, deltas: int = 2, sample_rate: int = 16_000, window: int = 400, hop: int = 160
    ) -> None:
        super().__init__()
        if deltas < 0:
            raise ValueError(f"deltas must be at least 0, not {deltas}")
        if not 1 <= coefficients <= FILTERS:
            raise ValueError(f"coefficients must be between 1 and {FILTERS}, not {coefficients}")
        if not 1 <= hop <= window:
            raise ValueError(f"hop must be between 1 and the window's {window} samples, not {hop}")
        spectrum = {"n_fft": window, "hop_length": hop, "center": False, "n_mels": FILTERS}
        self.mfcc = load("torchaudio.transforms").MFCC(sample_rate, coefficients, log_mels=True, melkwargs=spectrum)
        self.deltas = deltas
        before = window // 2 - hop // 8
        self.padding = before, before - 1

    @torch.no_grad()
    def forward(self, x_B1T: Tensor) -> Tensor:
        """Return the coefficients, then their differences, order by order."""
        compute_deltas = load("torchaudio.functional").compute_deltas
        with torch.autocast(x_B1T.device.type, enabled=False):
            orders = [self.mfcc(F.pad(x_B1T.float(), self.padding)).squeeze(1)]
            for _ in range(self.deltas):
                orders.append(compute_deltas(orders[-1]))
        return torch.cat(orders, dim=1)
