"""What a stage can be made of: the paper's encoder and context, and the geometry of any other module."""

from stagewise.modules.conv1d import Conv1d
from stagewise.modules.geometry import Geometry, Layer, geometry_of
from stagewise.modules.gru import GRU
from stagewise.modules.recurrent import Recurrent
from stagewise.modules.resnet import ResNet

SHORT_NAMES = {
    "conv1d": "stagewise.modules.conv1d:Conv1d",
    "gru": "stagewise.modules.gru:GRU",
}

__all__ = ["GRU", "SHORT_NAMES", "Conv1d", "Geometry", "Layer", "Recurrent", "ResNet", "geometry_of"]
