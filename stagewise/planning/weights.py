"""Was a stage trained on the weights that are below it now? A fingerprint cannot tell: it is known before them.

Where a stage's folder is deleted and trained again on another machine, its weights differ in their last bits, and in
all that chaos makes of them; what was trained and probed on the old ones goes, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stagewise.planning.stage_plan import StagePlan
from stagewise.runs.record import WEIGHTS, read_record, read_trained, same_weights

OUTGROWN = "the weights below are not those it was trained on"


def weights_below(stages: Sequence[StagePlan], stage: StagePlan) -> str | None:
    """Return the sha256 of the weights right below a stage and its company: "" for the data, None if unknown."""
    lowest = stage.together[0]
    if lowest == 0:
        return ""
    facts = _facts(stages[lowest - 1])
    return None if facts is None else str(facts["files"][WEIGHTS])


def fits(stages: Sequence[StagePlan], stage: StagePlan, facts: dict[str, Any]) -> bool:
    """Whether what a record says was trained fits what is below the stage, as far as both are known."""
    return same_weights(facts.get("below"), weights_below(stages, stage))


def outgrown(stages: Sequence[StagePlan], stage: StagePlan) -> bool:
    """Whether a stage is trained, and on other weights than those below it.

    Raises:
        IntegrityError: its record is damaged.
    """
    facts = _facts(stage)
    return facts is not None and not fits(stages, stage, facts)


def _facts(stage: StagePlan) -> dict[str, Any] | None:
    if stage.record is not None or stage.folder is None:
        return stage.record
    return read_record(stage.folder, with_store=False) or read_trained(stage.folder, stage.fingerprint)
