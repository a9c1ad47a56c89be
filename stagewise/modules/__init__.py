"""What a stage can be made of: the paper's encoders and contexts, and the geometry of any other module."""

from stagewise.modules.conv1d import Conv1d
from stagewise.modules.geometry import Geometry, Layer, geometry_of
from stagewise.modules.gru import GRU
from stagewise.modules.mfcc import Mfcc
from stagewise.modules.pixelcnn import PixelCNN
from stagewise.modules.recurrent import Recurrent
from stagewise.modules.resnet import ResNet
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
