"""Resample a slice of a long signal so that it equals the same slice of the whole signal, bit for bit.

The filter is torchaudio's. Results are computed in blocks of one size on a fixed grid, whatever the slice: a
convolution over pieces of other sizes would change last bits.

Shape suffixes: T samples, L weights of the filter, R results of one period, P periods of one block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from stagewise.libraries import load

Floats = npt.NDArray[np.float32]
Read = Callable[[int, int], Floats]  # start, stop -> samples (T,)

FILTER_WIDTH = 6  # zero crossings and roll-off of torchaudio's windowed sinc, its defaults
ROLLOFF = 0.99
BLOCK = 4096  # outputs computed at a time, at least
MAX_KERNEL = 2**22  # weights; two rates without a common factor would need gigabytes


def can_resample(source_rate: int, rate: int) -> bool:
    """Say whether the filter between two rates has a reasonable size."""
    old, new = _reduced(source_rate, rate)
    width = math.ceil(FILTER_WIDTH * old / (min(old, new) * ROLLOFF))
    return new * (2 * width + old) <= MAX_KERNEL


def resample(read: Read, samples: int, source_rate: int, rate: int, start: int, stop: int) -> Floats:
    """Return samples start to stop of the resampled signal, float32 (stop - start,).

    Args:
        read: reads a slice of the source.
        samples: length of the source.
        source_rate: samples per second of the source.
        rate: samples per second of the result.
        start: first sample of the slice, at `rate`.
        stop: the sample after the last one, at `rate`.
    """
    old, new = _reduced(source_rate, rate)  # `old` samples become `new` samples in every period
    kernel_LR, width = _filter(old, new)
    periods = -(-BLOCK // new)
    first, last = start // (periods * new), -(-stop // (periods * new))
    source_start = first * periods * old - width
    source_stop = last * periods * old + width
    inside = slice(max(source_start, 0), min(source_stop, samples))
    padded_T = np.zeros(source_stop - source_start, dtype=np.float32)
    padded_T[inside.start - source_start : inside.stop - source_start] = read(inside.start, inside.stop)

    blocks = []
    for block in range(last - first):
        begin = block * periods * old
        around_T = padded_T[begin : begin + periods * old + 2 * width]
        windows_PL = np.lib.stride_tricks.sliding_window_view(around_T, len(kernel_LR))[::old]
        blocks.append((windows_PL @ kernel_LR).reshape(-1))
    results_T = np.concatenate(blocks)
    offset = start - first * periods * new
    return results_T[offset : offset + stop - start]


@lru_cache(maxsize=16)
def _filter(old: int, new: int) -> tuple[Floats, int]:
    """Return torchaudio's windowed-sinc weights (2 width + old, new) and their width, in samples."""
    import torch

    transforms = load("torchaudio.transforms")

    # Left to itself, torchaudio rounds the phases of the filter to float32: errors of up to 1e-5.
    transform = transforms.Resample(old, new, lowpass_filter_width=FILTER_WIDTH, rolloff=ROLLOFF, dtype=torch.float64)
    return transform.kernel[:, 0].T.contiguous().float().numpy(), int(transform.width)


def _reduced(source_rate: int, rate: int) -> tuple[int, int]:
    common = math.gcd(source_rate, rate)
    return source_rate // common, rate // common
