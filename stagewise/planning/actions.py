"""What is to be done for every stage, and why: from what the run directory holds already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from stagewise.config import Pipeline
from stagewise.config.fingerprint import differences, fingerprint
from stagewise.errors import IntegrityError
from stagewise.planning.identity import stage_identity
from stagewise.planning.stage_plan import StagePlan
from stagewise.planning.weights import OUTGROWN, fits, outgrown
from stagewise.runs.folder import RunFolder
from stagewise.runs.record import epochs_done, read_record, read_trained


def identify(pipeline: Pipeline, run: RunFolder, stages: list[StagePlan], data: str) -> None:
    """Give every stage its fingerprint, its folder and its record, and say which are trained together.

    In the simultaneous schedule those are all; but stages that are done keep the company they were trained in, so
    that what is put on top of them trains alone on what they left.

    Args:
        pipeline: with its schedule.
        run: the run directory.
        stages: of the plan; changed.
        data: fingerprint of the data set.
    """
    start, below = 0, data
    while start < len(stages):
        largest = len(stages) if pipeline.pipeline.schedule == "simultaneous" else start + 1
        for end in range(largest, start, -1):
            top = _identify(pipeline, run, stages, range(start, end), below)
            # Weights whose store alone has changed, as when a stage is put on top, were trained in that company, too.
            if all(stage.record is not None or adoptable(stages, stage) is not None for stage in stages[start:end]):
                break
        else:  # none is done: all that are left are trained together
            if end != largest:
                end, top = largest, _identify(pipeline, run, stages, range(start, largest), below)
        start, below = end, top


def _identify(pipeline: Pipeline, run: RunFolder, stages: list[StagePlan], together: range, below: str) -> str:
    """Identify stages that are trained together, and return the fingerprint of the topmost."""
    alone, under = [], below
    for position in together:
        identity = stage_identity(pipeline, stages[position].built, under, stages[position].policy)
        alone.append(identity)
        under = fingerprint(identity["train"])  # of its store they see nothing: rows come straight from the stage below
    company = [fingerprint(identity["train"]) for identity in alone]
    for position, identity in zip(together, alone, strict=True):
        stage = stages[position]
        if len(together) > 1:
            identity["train"]["together"] = company
        stage.identity, stage.together = identity, together
        stage.fingerprint = below = fingerprint(identity)
        stage.folder = run.stage(stage.index, stage.name, below)
        stage.record = read_record(stage.folder)
    return below


def choose_actions(stages: list[StagePlan], schedule: str) -> None:
    """Say what is to be done for every stage, from what is there."""
    above_runs = False  # whether the stage above still needs this one's rows
    # The weights of two trainings do not fit each other: with one stage, all that are trained in sync with it go.
    old = [outgrown(stages, stage) for stage in stages]
    gone = [stage for stage, grown in zip(stages, old, strict=True) if grown or _lost(stages, stage)]
    anew = {position for stage in gone for position in stage.together}
    for position, stage in reversed([*enumerate(stages)]):
        assert stage.folder is not None
        if position in anew:
            reason = OUTGROWN if old[position] else _changes(stage)
            stage.action, stage.reason, stage.record = "train", reason, None
        elif stage.record is None:
            if read_trained(stage.folder, stage.fingerprint) is not None:
                stage.action, stage.reason = "encode", "trained, but its store is not finished"
            elif adoptable(stages, stage) is not None:
                stage.action, stage.reason = "encode", "only its store changed"
            else:
                stage.action, stage.reason = "resume", _how_far(stages[stage.together[-1]])
        elif stage.record["store"]["state"] == "dropped" and (above_runs or stage.built.config.store.keep):
            needed = "the stage above needs it" if above_runs else "it is to be kept now"
            stage.action, stage.reason = "encode", f"its store was dropped, and {needed}"
        elif above_runs and not stage.policy.write:
            stage.action, stage.reason = (
                "recompute",
                "trained; its rows are computed again for the stage above",
            )
        else:
            alone = schedule == "simultaneous" and len(stage.together) == 1 < len(stages)
            stage.action, stage.reason = "cached", "it was trained alone, and stays so" if alone else "nothing changed"
            if any(below.record is None for below in stages[:position]):
                stage.reason = "it is kept if those below come out as they were"
        above_runs = stage.action != "cached"


def _how_far(top: StagePlan) -> str:
    """Say where a stage, or the topmost of those that are trained in sync, was interrupted."""
    assert top.folder is not None
    done = epochs_done(top.folder)
    where = "" if done is None else f" in epoch {done + 1} of {top.built.config.train.epochs} at most"
    return f"interrupted{where}; it goes on from its checkpoint"


def _lost(stages: list[StagePlan], stage: StagePlan) -> bool:
    """Whether there is nothing that a stage's weights could be taken from."""
    folder, top = stage.folder, stages[stage.together[-1]].folder
    assert folder is not None
    assert top is not None
    there = stage.record is not None or (top / "checkpoint").exists()
    return not there and read_trained(folder, stage.fingerprint) is None and adoptable(stages, stage) is None


def _changes(stage: StagePlan) -> str:
    """Look in the folder that the run has of a stage, or in its older ones, for what changed since."""
    assert stage.identity is not None
    assert stage.folder is not None
    known = {
        folder.name: list(differences(record["identity"]["train"], stage.identity["train"]))
        for folder, record in _older(stage)
    }
    if not known:
        begun = any((folder / "checkpoint").exists() for folder in _folders(stage))
        if not stage.built.trains and len(stage.together) == 1:
            return "nothing in it can be trained: it is frozen as it is"
        return "not trained yet" + (
            "; one half trained with other settings is kept, and goes on when they are back" if begun else ""
        )
    with suppress(IntegrityError):
        locked = RunFolder(stage.folder.parent.parent).locked or {"stages": []}
        known = {s["folder"]: known[s["folder"]] for s in locked["stages"] if s["folder"] in known} or known
    changes = min(known.values(), key=len)
    below = [change for change in changes if change.startswith("below: ")]
    other = [change for change in changes if not change.startswith(("below: ", "together: "))]
    words = other[:3] + ([f"and {len(other) - 3} more"] if len(other) > 3 else [])
    if below:
        words.append("the data changed" if stage.index == 1 else "the stage below changed")
    if any(change.startswith("together: ") for change in changes):
        words.append("what it is trained in sync with changed")
    if not changes:
        words.append("a stage that it is trained in sync with is to be trained")
    return "; ".join(words)


def adoptable(stages: list[StagePlan], stage: StagePlan) -> Path | None:
    """Return an older folder of the stage whose weights were trained under the same identity, on those below it now."""
    assert stage.identity is not None
    for folder, record in _older(stage):
        if record["identity"]["train"] == stage.identity["train"] and fits(stages, stage, record):
            return folder
    return None


def _older(stage: StagePlan) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the trained folders of a stage under any fingerprint; one that is damaged is no reason to stop."""
    for folder in _folders(stage):
        with suppress(IntegrityError):
            record = read_record(folder, with_store=False) or read_trained(folder)
            if record is not None:
                yield folder, record


def _folders(stage: StagePlan) -> list[Path]:
    """List the folders of a stage under any fingerprint."""
    assert stage.folder is not None
    return RunFolder(stage.folder.parent.parent).earlier(stage.index, stage.name)
