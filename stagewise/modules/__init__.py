"""What a stage can be made of: the paper's encoders and contexts, and the geometry of any other module."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stagewise.modules.geometry import Geometry, Layer
from stagewise.registry import MODULES as SHORT_NAMES

if TYPE_CHECKING:
    from stagewise.modules.audio import GRU, Conv1d, LogMel, Mfcc
    from stagewise.modules.measured_geometry import Recurrent, geometry_of
    from stagewise.modules.vision import PixelCNN, ResNet

__all__ = [
    "GRU",
    "SHORT_NAMES",
    "Conv1d",
    "Geometry",
    "Layer",
    "LogMel",
    "Mfcc",
    "PixelCNN",
    "Recurrent",
    "ResNet",
    "geometry_of",
]

# Looked up on first use: what looks at data needs the arithmetic of windows, and no torch.
_WITH_TORCH = {
    "GRU": "audio",
    "Conv1d": "audio",
    "LogMel": "audio",
    "Mfcc": "audio",
    "PixelCNN": "vision",
    "Recurrent": "measured_geometry",
    "ResNet": "vision",
    "geometry_of": "measured_geometry",
}


def __getattr__(name: str) -> Any:
    if name not in _WITH_TORCH:
        raise AttributeError(f"module 'stagewise.modules' has no attribute {name!r}")
    return getattr(import_module(f"stagewise.modules.{_WITH_TORCH[name]}"), name)
