"""Which row of a representation belongs to which label frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stagewise.datasets.labels import FrameLabels
from stagewise.modules.geometry import Geometry

BEST_CENTRED = -1  # with the paper's encoder, row i lies 19.5 samples beside the centre of label i - 1


@dataclass(frozen=True)
class Alignment:
    """Rows of a stage against frames of labels.

    Attributes:
        geometry: from samples to rows.
        offset: row i is read against label i + offset, where rows and labels have the same hop; -1 is best
            centred, -2 is what the authors' probe does, 0 what CPC_audio and s3prl do. With another hop, each
            label gets the row whose centre is nearest to where that row's would be.
    """

    geometry: Geometry
    offset: int = BEST_CENTRED

    def rows(self, labels: FrameLabels) -> npt.NDArray[np.int64]:
        """Return the row of every frame; negative or beyond the item's rows where there is none."""
        frames = np.arange(len(labels.classes))
        samples = labels.first + (frames + BEST_CENTRED - self.offset) * labels.hop
        # Half-way cases go up, so that neighbouring frames never swap.
        return np.floor((samples - self.geometry.centre) / self.geometry.hop + 0.5).astype(np.int64)
