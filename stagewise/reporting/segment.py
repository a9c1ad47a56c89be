"""Small pictures of what one row sees: the pixels of a patch, a spectrogram, or a wave too short for one.

Shape suffixes: T samples, F frequencies, N frames, H x W pixels.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.image import imsave

from stagewise.reporting.draw import colour
from stagewise.reporting.words import escape

FRAME, HOP = 0.025, 0.005  # seconds of one spectrum, and between the starts of two
DECIBELS = 60.0  # below the loudest point of a spectrogram, and all beneath, is black
Floats = npt.NDArray[np.floating[Any]]
Pixels = npt.NDArray[np.uint8]


def patch(pixels_HWC: Pixels, alt: str) -> str:
    """Return a patch as an image element; 1, 3 or 4 channels."""
    if pixels_HWC.shape[2] == 1:
        pixels_HWC = pixels_HWC.repeat(3, axis=2)
    return _image(pixels_HWC, alt, "patch")


def wave(samples_T: Floats, alt: str) -> str:
    """Return samples as a line, as high as the loudest of them."""
    loudest = float(np.abs(samples_T).max(initial=0)) or 1.0
    places = np.linspace(0, 100, len(samples_T))
    points = " ".join(f"{x:.2f},{29 - 27 * y:.2f}" for x, y in zip(places, samples_T / loudest, strict=True))
    return (
        f'<svg viewBox="0 0 100 58" preserveAspectRatio="none" role="img" aria-label="{escape(alt)}">'
        f'<title>{escape(alt)}</title><path d="M0 29H100" stroke="currentColor" stroke-opacity=".3" '
        f'vector-effect="non-scaling-stroke"/><polyline points="{points}" fill="none" stroke="{colour(0)}" '
        'stroke-width="1.5" vector-effect="non-scaling-stroke"/></svg>'
    )


def spectrogram(samples_T: Floats, sample_rate: int, seen: tuple[float, float], alt: str) -> str:
    """Return samples as a spectrogram, low frequencies below, with a line at both ends of what the row sees.

    Args:
        samples_T: at least one.
        sample_rate: of them, per second.
        seen: where the row's view begins and ends, in seconds from the first sample.
        alt: what it is, in words.
    """
    level_FN = decibels(samples_T, sample_rate)
    pixels_HWC = (colormaps["magma"](level_FN[::-1] / DECIBELS + 1)[..., :3] * 255).astype(np.uint8)
    for second in seen:
        place = round((second - FRAME / 2) / HOP)
        if 0 <= place < pixels_HWC.shape[1]:
            pixels_HWC[:, place] = 255
    return _image(pixels_HWC, alt, "sound")


def decibels(samples_T: Floats, sample_rate: int) -> Floats:
    """Return the power of every frequency in every frame, (F, N), in decibels: 0 is the loudest, -60 the least."""
    size, hop = round(FRAME * sample_rate), max(1, round(HOP * sample_rate))
    padded_T = np.pad(samples_T, (0, max(0, size - len(samples_T))))
    frames_NT = np.lib.stride_tricks.sliding_window_view(padded_T, size)[::hop]
    power_FN = (np.abs(np.fft.rfft(frames_NT * np.hanning(size))) ** 2).T
    loudest = power_FN.max() or 1.0
    return np.asarray(10 * np.log10(np.maximum(power_FN / loudest, 10 ** (-DECIBELS / 10))))


def _image(pixels_HWC: Pixels, alt: str, kind: str) -> str:
    file = io.BytesIO()
    imsave(file, pixels_HWC, format="png")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img class="{kind}" alt="{escape(alt)}" src="data:image/png;base64,{data}">'
