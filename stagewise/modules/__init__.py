"""What a stage can be made of: the paper's encoders and contexts, and the geometry of any other module."""

from stagewise.modules.conv1d import Conv1d
from stagewise.modules.geometry import Geometry, Layer, geometry_of
from stagewise.modules.gru import GRU
from stagewise.modules.mfcc import Mfcc
from stagewise.modules.pixelcnn import PixelCNN
from stagewise.modules.recurrent import Recurrent
from stagewise.modules.resnet import ResNet

SHORT_NAMES = {
    "conv1d": "stagewise.modules.conv1d:Conv1d",
    "gru": "stagewise.modules.gru:GRU",
    "mfcc": "stagewise.modules.mfcc:Mfcc",
    "pixelcnn": "stagewise.modules.pixelcnn:PixelCNN",
    "resnet": "stagewise.modules.resnet:ResNet",
}

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
