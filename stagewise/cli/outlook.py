"""How long the rest of a run will take: as the plan reckons it, at the pace that is seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stagewise.planning.duration import Duration


class Outlook:
    """What comes after the stage that is under way.

    Args:
        in_sync: whether all stages are trained together, and then encoded one after another.
    """

    def __init__(self, in_sync: bool) -> None:
        self.in_sync, self.scale = in_sync, 1.0  # of what is reckoned, to what is seen
        self.reckoned: Mapping[str, Duration] = {}
        self.probes = 0.0  # as reckoned, in seconds

    def later(self, kind: str, stage: str, each: float) -> float:
        """Return about how many seconds the other stages and the probes take that are still to be made.

        Args:
            kind: "step" or "encode": what is under way.
            stage: of which.
            each: seconds of a step, as they are seen.
        """
        names = list(self.reckoned)
        if stage not in names:
            return 0.0
        above = [self.reckoned[name] for name in names[names.index(stage) + 1 :]]
        encode = sum(time.encode for time in above)
        if kind == "step":
            members = list(self.reckoned.values()) if self.in_sync else [self.reckoned[stage]]
            self.scale = each / sum(time.step for time in members)
            encode += sum(time.encode for time in members)
        return self.scale * (encode + self.probes + (0.0 if self.in_sync else sum(time.train for time in above)))
