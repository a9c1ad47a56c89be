"""Local losses: one file each; usable on their own in anybody's training loop."""

from stagewise.objectives.base import Objective, Score
from stagewise.objectives.infonce import InfoNCE

SHORT_NAMES = {"infonce": "stagewise.objectives.infonce:InfoNCE"}

__all__ = ["SHORT_NAMES", "InfoNCE", "Objective", "Score"]
