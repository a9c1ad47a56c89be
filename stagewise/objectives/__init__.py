"""Local losses, usable on their own in anybody's training loop."""

from stagewise.objectives.base import Objective, Score, Supervised
from stagewise.objectives.deep_infomax import DeepInfoMax
from stagewise.objectives.infonce import InfoNCE
from stagewise.objectives.infonce_grid import GridInfoNCE
from stagewise.objectives.supervised import CrossEntropy, PredSim
from stagewise.registry import OBJECTIVES as SHORT_NAMES

__all__ = [
    "SHORT_NAMES",
    "CrossEntropy",
    "DeepInfoMax",
    "GridInfoNCE",
    "InfoNCE",
    "Objective",
    "PredSim",
    "Score",
    "Supervised",
]
