"""Which finished stages new settings put out of reach, and how to keep them in use."""

from __future__ import annotations

import shlex
from contextlib import suppress

from stagewise.errors import IntegrityError
from stagewise.planning.plan import Plan
from stagewise.runs.record import read_record


def replaced(plan: Plan) -> str | None:
    """Say which finished stages of the run as it is now are trained anew, or are in the file no more; None if none."""
    now = {stage["name"]: stage["folder"] for stage in (plan.run.locked or {"stages": []})["stages"]}
    anew = [
        stage
        for stage in plan.stages
        if stage.action in ("train", "resume") and stage.folder and now.get(stage.name) != stage.folder.name
        if _finished(plan, now.get(stage.name))
    ]
    gone = [
        name for name, folder in now.items() if name not in {s.name for s in plan.stages} and _finished(plan, folder)
    ]
    if not anew and not gone:
        return None
    found = [f"are trained anew: {', '.join(stage.name for stage in anew)} ({anew[0].reason})"] if anew else []
    found += [f"are not in the file any more: {', '.join(gone)}"] if gone else []
    run = shlex.quote(str(plan.run.path))
    return (
        f"finished stages {'; '.join(found)}. The old ones stay in {plan.run.path} until `stagewise clean`, but "
        "`embed` and `export` find them only after a `run` with the settings of before. To keep both in use, give the "
        f"new settings a run of their own with --run, or type `stagewise export {run} --out DIR` while the old ones "
        "are in use."
    )


def _finished(plan: Plan, folder: str | None) -> bool:
    if folder is None:
        return False
    with suppress(IntegrityError):
        return read_record(plan.run.path / "stages" / folder, with_store=False) is not None
    return False
