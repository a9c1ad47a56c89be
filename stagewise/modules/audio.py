"""Modules for audio: strided convolutions, the recurrent context, log-mel spectra and MFCC.

Legend: B items, T samples or rows, C coefficients.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stagewise.libraries import load
from stagewise.modules.geometry import Numbers, check_number, per_layer
from stagewise.modules.measured_geometry import Recurrent

# The paper's audio encoder: one or several 1-D convolutions, each with a bias and a ReLU, without a norm.


class Conv1d(nn.Sequential):
    """x (B, in_channels, T) → z (B, out_channels, T'), one convolution and ReLU per layer.

    Every argument but `in_channels` is one number, or one list with a number per layer.
    Löwe et al. 2019, appendix A.2 (the encoder of van den Oord et al. 2018, section 3.1).

    Args:
        in_channels: channels of the input.
        out_channels: channels of each layer's output.
        kernel_size: rows that one output row of a layer sees.
        stride: rows between neighbouring output rows.
        padding: rows of zeros added at both true ends of an item.

    Raises:
        ValueError: the lists differ in length, or hold something else than sizes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: Numbers,
        kernel_size: Numbers,
        stride: Numbers = 1,
        padding: Numbers = 0,
    ) -> None:
        check_number("in_channels", in_channels)
        layers: list[nn.Module] = []
        numbers = per_layer(out_channels=out_channels, kernel_size=kernel_size, stride=stride, padding=padding)
        for channels, kernel, hop, pad in numbers:
            layers += [nn.Conv1d(in_channels, channels, kernel, hop, pad), nn.ReLU()]
            in_channels = channels
        super().__init__(*layers)


# The paper's autoregressive model g_ar: one GRU layer over time.
#
# Shapes: B items, C input channels, D hidden channels, T rows.


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


# Spectra on the mel scale and their cepstral coefficients: computed, never trained. A front end of what is trained
# above it, and the hand-made features that learned ones are compared with.
#
# The logarithm has a floor (power + 10⁻⁶) in place of a distance from the loudest row, which would be a part of every
# other one. Row i is centred where that of the paper's encoder is, an eighth of a hop after sample i·hop (by half a
# sample), and an item of any length has as many rows as there.

FILTERS = 40
LEAST_FFT = 512  # with fewer points, low filters fall between two of them
LOUDNESS = (0.69, 4.42)  # mean and deviation of logarithms of standardised English speech


def _check_spectrum(window: int, hop: int) -> None:
    if not 1 <= hop <= window:
        raise ValueError(f"hop must be between 1 and the window's {window} samples, not {hop}")


def _padding(span: int, hop: int) -> tuple[int, int]:
    before = span // 2 - hop // 8
    return before, before - 1


class LogMel(nn.Module):
    """x (B, 1, T) samples → (B, bands, T'), logarithms of power in mel bands, without a parameter or a gradient.

    Davis and Mermelstein 1980, up to the cosine transform; a Hann window. Of standardised samples, bands come out with
    about zero mean and unit deviation.

    Args:
        bands: how many.
        sample_rate: samples per second.
        window: samples that a spectrum is taken from.
        hop: samples between rows.
        mean: subtracted from the logarithms; the defaults are those of English speech (LibriSpeech).
        std: divides them.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        bands: int = FILTERS,
        sample_rate: int = 16_000,
        window: int = 400,
        hop: int = 160,
        mean: float = LOUDNESS[0],
        std: float = LOUDNESS[1],
    ) -> None:
        super().__init__()
        _check_spectrum(window, hop)
        if not 1 <= bands <= LEAST_FFT // 4:
            raise ValueError(f"bands must be between 1 and {LEAST_FFT // 4}, not {bands}")
        if std <= 0:
            raise ValueError(f"std must be above 0, not {std}")
        self.points = max(LEAST_FFT, 1 << (window - 1).bit_length())
        filters = load("torchaudio.functional").melscale_fbanks
        filters_FM = filters(self.points // 2 + 1, 0.0, sample_rate / 2, bands, sample_rate)
        self.register_buffer("filters_FM", filters_FM, persistent=False)
        self.register_buffer("taper_W", torch.hann_window(window), persistent=False)
        self.window, self.hop, self.padding = window, hop, _padding(window, hop)
        self.mean, self.std = mean, std

    @torch.no_grad()
    def forward(self, x_B1T: Tensor) -> Tensor:
        """Return the standardised logarithms."""
        with torch.autocast(x_B1T.device.type, enabled=False):
            samples_BT = F.pad(x_B1T.float(), self.padding).squeeze(1)
            frames_BNW = samples_BT.unfold(1, self.window, self.hop) * self.get_buffer("taper_W")
            power_BNF = torch.fft.rfft(frames_BNW, self.points).abs().square()
            levels_BNM = (power_BNF @ self.get_buffer("filters_FM") + 1e-6).log()
        z_BMN: Tensor = ((levels_BNM - self.mean) / self.std).transpose(1, 2)
        return z_BMN


class Mfcc(nn.Module):
    """x (B, 1, T) samples → (B, coefficients · (1 + deltas), T'), without a parameter and without a gradient.

    Löwe et al. 2019, table 3, "MFCC features" (10 ms between rows; the paper says no more). The other settings are
    the usual ones: a Hann window of 25 ms, 40 mel filters, first and second differences over five rows.

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
        _check_spectrum(window, hop)
        spectrum = {"n_fft": window, "hop_length": hop, "center": False, "n_mels": FILTERS}
        self.mfcc = load("torchaudio.transforms").MFCC(sample_rate, coefficients, log_mels=True, melkwargs=spectrum)
        self.deltas = deltas
        self.padding = _padding(window, hop)

    @torch.no_grad()
    def forward(self, x_B1T: Tensor) -> Tensor:
        """Return the coefficients, then their differences, order by order."""
        compute_deltas = load("torchaudio.functional").compute_deltas
        with torch.autocast(x_B1T.device.type, enabled=False):
            orders = [self.mfcc(F.pad(x_B1T.float(), self.padding)).squeeze(1)]
            for _ in range(self.deltas):
                orders.append(compute_deltas(orders[-1]))
        return torch.cat(orders, dim=1)
