"""What becomes of one stage: its policy, its memory, its fingerprint, and what is to be done."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stagewise.planning.build import BuiltStage
from stagewise.planning.memory import Forecast
from stagewise.planning.policy import WIDTH, Policy


@dataclass
class StagePlan:
    """What becomes of one stage.

    Attributes:
        index: 1 for the first stage.
        built: its modules at their random start.
        policy: of its store.
        rows: of the whole data set.
        together: positions of the stages that it is trained in sync with, its own among them.
        forecast: memory of its training step; made last, when it is known what trains together.
        identity: what its result depends on; None while the data is not there.
        fingerprint: of the identity.
        folder: where it lives; None while the data is not there.
        record: its commit record, if it is done.
        action: "train", "resume", "encode", "recompute" (done; rows are computed again for the stage above)
            or "cached".
        reason: why, in words.
    """

    index: int
    built: BuiltStage
    policy: Policy
    rows: int
    together: range
    forecast: Forecast = field(init=False)
    identity: dict[str, Any] | None = None
    fingerprint: str | None = None
    folder: Path | None = None
    record: dict[str, Any] | None = None
    action: str = "train"
    reason: str = "not trained yet"

    @property
    def name(self) -> str:
        """Name of the stage."""
        return self.built.config.name

    @property
    def store_state(self) -> str:
        """What the contract calls its store: written, recomputed or dropped."""
        if self.record is not None and self.action != "encode":
            return str(self.record["store"]["state"])
        return "written" if self.policy.write else "recomputed"

    def store_bytes(self, dtype: str | None = None) -> int:
        """Uncompressed bytes of the rows, in the stage's dtype or another."""
        return self.rows * math.prod(self.built.row_shape) * WIDTH[dtype or self.built.config.store.dtype]
