"""What changed since the last run, and so what is to be done: train, go on, encode again, or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from stagewise import datasets, durable, modules, objectives
from stagewise.errors import IntegrityError
from stagewise.pipeline import Pipeline, Probe, Spec, files_of, resolve
from stagewise.pipeline.identity import differences, fingerprint
from stagewise.planning.build import BuiltStage, source_hashes
from stagewise.planning.stage_plan import StageOutline, StagePlan
from stagewise.planning.stores import Policy
from stagewise.registry import SCHEDULES
from stagewise.runs.folder import RunFolder
from stagewise.runs.records import RECORD, TRAINED, WEIGHTS, epochs_done, read_record, read_trained, same_weights

# What a stage's and a probe's result depends on, and nothing else: the contents of their fingerprints.

# Keys of a stage's tables that change how it is computed, not what comes out.
WITHOUT_EFFECT = {"train": ("checkpoint", "precision"), "store": ("write", "compress", "keep")}

# Keys that came later, at the value that stands for what was done before them.
NOTHING = {"every": 1, "noise": 0.0, "schedule": None}


def _described(spec: Spec | None, short_names: Mapping[str, str]) -> dict[str, Any] | None:
    """Return a class and its arguments; files that it reads are what they hold, wherever they lie."""
    if spec is None:
        return None
    table = spec.model_dump(mode="json")
    return table | _file_hashes(spec, short_names)


def _file_hashes(spec: Spec, short_names: Mapping[str, str]) -> dict[str, str]:
    """Hash the files that a class says it is made with, by argument."""
    files = files_of(resolve(spec.target, object, short_names, spec.target), spec)
    return {name: f"sha256 {_hash(str(path), *durable.file_state(path))}" for name, path in files.items()}


def undeclared_files(pipeline: Pipeline) -> Iterator[str]:
    """Say which arguments of somebody's own classes are files that they do not name: a replaced one is not noticed."""
    for stage in pipeline.stage:
        parts = {
            "encoder": (stage.encoder, modules.SHORT_NAMES),
            "context": (stage.context, modules.SHORT_NAMES),
            "objective": (stage.objective, objectives.SHORT_NAMES),
        }
        for part, (spec, short_names) in parts.items():
            if spec is None or spec.target in short_names or spec.target.startswith("torch."):
                continue
            kind = resolve(spec.target, object, short_names, spec.target)
            for name, value in spec.arguments.items():
                declared = name in files_of(kind, spec)
                if isinstance(value, str) and not declared and os.path.isfile(value):  # noqa: PTH113 (any text will do)
                    where = pipeline.where(f"stage.{stage.name}.{part}.{name}")
                    yield (
                        f"{where}: {value} is a file, and it would not be noticed if another took its place: give "
                        f'{kind.__name__} the line file_arguments = ("{name}",).'
                    )


@lru_cache(64)
def _hash(path: str, *_: int) -> str:
    """Hash a file; one that has not been touched since is not read again."""
    return durable.sha256_of(Path(path))


def stage_identity(pipeline: Pipeline, stage: BuiltStage, below: str, policy: Policy) -> dict[str, Any]:
    """Return what decides a stage: {"train": what decides its weights, "store": what decides its rows}.

    Args:
        pipeline: for the seed and the held-out part.
        stage: with its precision resolved.
        below: fingerprint of the stage below, or of the data set for the first one, which also depends on the source
            of a data set of one's own.
        policy: of its store.
    """
    config = stage.config
    train = config.train.model_dump(mode="json", exclude=set(WITHOUT_EFFECT["train"]))
    for name, nothing in NOTHING.items():
        if train.get(name) == nothing:
            del train[name]
    schedule = config.train.schedule
    specs = [(config.encoder, modules.SHORT_NAMES), (config.context, modules.SHORT_NAMES)]
    if config is pipeline.stage[0]:
        specs.append((pipeline.data, datasets.SHORT_NAMES))
    identity: dict[str, Any] = {
        "name": config.name,
        "below": below,
        "seed": pipeline.pipeline.seed,
        "validation": pipeline.data.validation,
        "encoder": _described(config.encoder, modules.SHORT_NAMES),
        "context": _described(config.context, modules.SHORT_NAMES),
        "objective": _described(config.objective, objectives.SHORT_NAMES),
        "train": {
            **train,
            "precision": stage.precision,
            "optimizer": _described(config.train.optimizer, {}),
            **({"schedule": _described(schedule, SCHEDULES)} if schedule is not None else {}),
        },
        **source_hashes(
            [
                *specs,
                (config.objective, objectives.SHORT_NAMES),
                (config.train.optimizer, {}),
                (schedule, SCHEDULES),
            ]
        ),
    }
    if config is pipeline.stage[0] and (files := _file_hashes(pipeline.data, datasets.SHORT_NAMES)):
        identity["files of the data"] = files
    store: str | None = config.store.dtype if policy.write else None
    if store and stage.grid and len(stage.row_shape) == 1:
        store = f"{store}, means of patches"
    return {"train": identity, "store": store}


def start_identity(seed: int, stages: Sequence[BuiltStage], stores: Sequence[str | None]) -> dict[str, Any]:
    """Return what decides the rows of stages at their random start; how they are trained does not.

    Args:
        seed: of the pipeline.
        stages: from the input up, with their precision resolved.
        stores: dtypes of the stores that their rows are rounded as by, if any.
    """
    rounded = [dtype if dtype != "float32" else None for dtype in stores]
    return {
        "seed": seed,
        **({"stores": rounded} if any(rounded) else {}),
        "stages": [
            {
                "name": stage.config.name,
                "encoder": _described(stage.config.encoder, modules.SHORT_NAMES),
                "context": _described(stage.config.context, modules.SHORT_NAMES),
                "precision": stage.precision,
                **source_hashes((part, modules.SHORT_NAMES) for part in (stage.config.encoder, stage.config.context)),
            }
            for stage in stages
        ],
    }


def probe_identity(
    probe: Probe, spec: Spec, seed: int, stage: str, data: str, labels: str, device: str
) -> dict[str, Any]:
    """Return what decides a probe on a stage.

    Args:
        probe: its table.
        spec: of its data set: the class and the arguments.
        seed: of the pipeline.
        stage: fingerprint of the stage, or of its random start.
        data: fingerprint of the data set.
        labels: fingerprint of its labels.
        device: kind of device, because another one gives other last bits.
    """
    table = probe.model_dump(mode="json", exclude={"stages", "data", "random"})
    sources = source_hashes([(spec, datasets.SHORT_NAMES), (probe.optimizer, {})])
    files = _file_hashes(spec, datasets.SHORT_NAMES)
    return {
        "probe": table,
        "seed": seed,
        "stage": stage,
        "data": data,
        "labels": labels,
        "device": device,
        **sources,
        **({"files of the data": files} if files else {}),
    }


def means_identity(spec: Spec, pool: str | None, stage: str, data: str, device: str) -> dict[str, Any]:
    """Return what decides the mean rows of items at a stage, which all probes of items share.

    Args:
        spec: of their data set: the class and the arguments.
        pool: how rows become one vector.
        stage: fingerprint of the stage, or of its random start.
        data: fingerprint of the data set.
        device: kind of device, because another one gives other last bits.
    """
    files = _file_hashes(spec, datasets.SHORT_NAMES)
    sources = source_hashes([(spec, datasets.SHORT_NAMES)])
    identity = {"means of items": stage, "data": data, "device": device, **sources, "files of the data": files}
    return identity if pool in (None, "mean") else identity | {"pool": pool}


# Was a stage trained on the weights that are below it now? A fingerprint cannot tell: it is known before them.
#
# Where a stage's folder is deleted and trained again on another machine, its weights differ in their last bits, and in
# all that chaos makes of them; what was trained and probed on the old ones goes, too.

WEIGHTS_BELOW_CHANGED = "the weights below are not those it was trained on"


def weights_below(stages: Sequence[StagePlan], stage: StagePlan) -> str | None:
    """Return the sha256 of the weights right below the stages in sync with one: "" for the data, None if unknown."""
    lowest = stage.together[0]
    if lowest == 0:
        return ""
    facts = _facts(stages[lowest - 1])
    return None if facts is None else str(facts["files"][WEIGHTS])


def fits(stages: Sequence[StagePlan], stage: StagePlan, facts: dict[str, Any]) -> bool:
    """Whether what a record says was trained fits what is below the stage, as far as both are known."""
    return same_weights(facts.get("below"), weights_below(stages, stage))


def weights_below_changed(stages: Sequence[StagePlan], stage: StagePlan) -> bool:
    """Whether a stage is trained, and on other weights than those below it.

    Raises:
        IntegrityError: its record is damaged.
    """
    facts = _facts(stage)
    return facts is not None and not fits(stages, stage, facts)


def _facts(stage: StagePlan) -> dict[str, Any] | None:
    if stage.record is not None:
        return stage.record
    return read_record(stage.folder, with_store=False) or read_trained(stage.folder, stage.fingerprint)


# What is to be done for every stage, and why: from what the run directory holds already.


def identify(pipeline: Pipeline, run: RunFolder, outlines: Sequence[StageOutline], data: str) -> list[StagePlan]:
    """Give every stage its fingerprint, its folder and its record, and say which are trained together.

    In the simultaneous schedule those are all; but stages that are done stay in sync with those they were trained
    with, so that what is put on top of them trains alone on what they left.

    Args:
        pipeline: with its schedule.
        run: the run directory.
        outlines: of the stages.
        data: fingerprint of the data set.
    """
    stages, below = list[StagePlan](), data
    while (start := len(stages)) < len(outlines):
        largest = len(outlines) if pipeline.pipeline.schedule == "simultaneous" else start + 1
        for end in range(largest, start, -1):
            some = _identify(pipeline, run, outlines, range(start, end), below)
            # Weights whose store alone has changed, as when a stage is put on top, were trained in sync with them, too.
            there = [*stages, *some]
            if all(stage.record is not None or adoptable(there, stage) is not None for stage in some):
                break
        else:  # none is done: all that are left are trained together
            some = _identify(pipeline, run, outlines, range(start, largest), below)
        stages += some
        below = stages[-1].fingerprint
    return stages


def _identify(
    pipeline: Pipeline, run: RunFolder, outlines: Sequence[StageOutline], together: range, below: str
) -> list[StagePlan]:
    """Identify stages that are trained together."""
    alone, under = [], below
    for position in together:
        identity = stage_identity(pipeline, outlines[position].built, under, outlines[position].policy)
        alone.append(identity)
        under = fingerprint(identity["train"])  # of its store they see nothing: rows come straight from the stage below
    members, found = [fingerprint(identity["train"]) for identity in alone], []
    for position, identity in zip(together, alone, strict=True):
        outline = outlines[position]
        if len(together) > 1:
            identity["train"]["together"] = members
        digest = fingerprint(identity)
        folder = run.stage(outline.index, outline.name, digest)
        found.append(
            StagePlan(
                index=outline.index,
                built=outline.built,
                policy=outline.policy,
                rows=outline.rows,
                together=together,
                identity=identity,
                fingerprint=digest,
                folder=folder,
                record=read_record(folder),
            )
        )
    return found


def choose_actions(stages: Sequence[StagePlan], schedule: str) -> None:
    """Say what is to be done for every stage, from what is there."""
    above_runs = False  # whether the stage above still needs this one's rows
    # The weights of two trainings do not fit each other: with one stage, all that are trained in sync with it go.
    changed = [weights_below_changed(stages, stage) for stage in stages]
    untrained = [stage for stage, below in zip(stages, changed, strict=True) if below or _has_no_weights(stages, stage)]
    to_train = {position for stage in untrained for position in stage.together}
    for position, stage in reversed([*enumerate(stages)]):
        if position in to_train:
            reason = WEIGHTS_BELOW_CHANGED if changed[position] else _changes(stage)
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
            store = stage.record["store"]
            if store["state"] == "written" and stage.policy.write and store["compress"] != stage.policy.compress:
                stage.reason += f"; its store stays as it was written, compress = {store['compress']}"
            if any(below.record is None for below in stages[:position]):
                stage.reason = "it is kept if those below come out as they were"
        above_runs = stage.action != "cached"


def _how_far(top: StagePlan) -> str:
    """Say where a stage, or the topmost of those that are trained in sync, was interrupted."""
    done = epochs_done(top.folder)
    where = "" if done is None else f" in epoch {done + 1} of {top.built.config.train.epochs} at most"
    return f"interrupted{where}; it goes on from its checkpoint"


def _has_no_weights(stages: Sequence[StagePlan], stage: StagePlan) -> bool:
    """Whether there is nothing that a stage's weights could be taken from."""
    folder, top = stage.folder, stages[stage.together[-1]].folder
    there = stage.record is not None or (top / "checkpoint").exists()
    return not there and read_trained(folder, stage.fingerprint) is None and adoptable(stages, stage) is None


def _changes(stage: StagePlan) -> str:
    """Look in the folder that the run has of a stage, or in its older ones, for what changed since."""
    known = {
        folder.name: list(differences(record["identity"]["train"], stage.identity["train"]))
        for folder, record in _older(stage)
    }
    if not known:
        folders = _folders(stage)
        if damaged := [folder.name for folder in folders if (folder / RECORD).exists() or (folder / TRAINED).exists()]:
            return f"no weights of it can be read: {', '.join(damaged)} {'is' if len(damaged) == 1 else 'are'} damaged"
        begun = any((folder / "checkpoint").exists() for folder in folders)
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


def adoptable(stages: Sequence[StagePlan], stage: StagePlan) -> Path | None:
    """Return an older folder of the stage whose weights were trained under the same identity, on those below it now."""
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
    return RunFolder(stage.folder.parent.parent).earlier(stage.index, stage.name)
