"""Which finished stages new settings put out of reach, and how to keep them in use."""

from __future__ import annotations

import shlex
from contextlib import suppress

from stagewise.errors import IntegrityError
from stagewise.planning.plan import Plan
from stagewise.runs.record import read_record


def replaced(plan: Plan) -> str | None:
    """Say which finished stages of the run as it is now are trained anew; None if none is."""
    now = {stage["name"]: stage["folder"] for stage in (plan.run.locked or {"stages": []})["stages"]}
    found = []
    for stage in plan.stages:
        folder = now.get(stage.name)
        if stage.action in ("train", "resume") and stage.folder and folder not in (None, stage.folder.name):
            with suppress(IntegrityError):
                if read_record(plan.run.path / "stages" / folder, with_store=False):
                    found.append(stage)
    if not found:
        return None
    run = shlex.quote(str(plan.run.path))
    return (
        f"finished stages are trained anew: {', '.join(stage.name for stage in found)} ({found[0].reason}). The old "
        f"ones stay in {plan.run.path} until `stagewise clean`, but `embed` and `export` find them only after a `run` "
        f"with the settings of before. To keep both in use, give the new settings a run of their own with --run, or "
        f"type `stagewise export {run} --out DIR` while the old ones are in use."
    )
