"""What a stage can be made of: the paper's encoders and contexts, and the geometry of any other module."""

from stagewise.modules.audio import GRU, Conv1d, Mfcc
from stagewise.modules.geometry import Geometry, Layer, Recurrent, geometry_of
from stagewise.modules.vision import PixelCNN, ResNet
from stagewise.short_names import MODULES as SHORT_NAMES

__all__ = [
    "GRU",
    "SHORT_NAMES",
    "Conv1d",
    "Geometry",
    "Layer",
    "Mfcc",
    "PixelCNN",
    "Recurrent",
    "ResNet",
    "geometry_of",
]
