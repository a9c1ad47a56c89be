"""Carry out a plan: stage after stage is trained, frozen and encoded, then the probes are fitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from stagewise import durable
from stagewise.datasets.base import Dataset, Expected
from stagewise.datasets.construct import build_dataset, dataset_kind
from stagewise.datasets.tables import label_words
from stagewise.errors import ConfigError, DiskError, IntegrityError
from stagewise.pipeline import Pipeline, load_pipeline, refusals
from stagewise.planning.build import BuiltStage, Input, build_stages, device_of
from stagewise.planning.changes import WEIGHTS_BELOW_CHANGED, undeclared_files, weights_below_changed
from stagewise.planning.check import splits
from stagewise.planning.duration import estimate, to_make
from stagewise.planning.facts import data_facts, replaced, untested
from stagewise.planning.plan import Outline, Plan, make_outline, make_plan
from stagewise.planning.stage_plan import StagePlan
from stagewise.probing.run import plan_labels, planned_probes, probes_left_out, run_probes
from stagewise.runs.clean import finished
from stagewise.runs.facts import run_facts
from stagewise.runs.folder import LOCK_FILE, RunFolder
from stagewise.runs.items import Items, write_items
from stagewise.runs.records import (
    RECORD,
    TRAINED,
    commit,
    epochs_done,
    mark_dropped,
    read_record,
    read_trained,
    write_data,
)
from stagewise.signals import Stop, stoppable
from stagewise.stages import carry_out
from stagewise.stores import remove_store, verify_store
from stagewise.stores.layout import MANIFEST
from stagewise.text import computed_text, counted
from stagewise.threads import considerate
from stagewise.training.memory_measured import release_memory

Report = Callable[..., None]


def quiet(kind: str, **facts: Any) -> None:
    """Report nothing."""


def run_pipeline(
    file: str | Path,
    run: str | Path | None = None,
    set: Mapping[str, object] | None = None,  # noqa: A002
    until: str | None = None,
    report: Report = quiet,
    unset: Sequence[str] = (),
) -> dict[str, Any]:
    """Run a pipeline file, or go on with it, as `stagewise run` does.

    Args:
        file: the pipeline file.
        run: the run directory; `runs/<pipeline.name>` when left out.
        set: overrides by dotted key.
        until: name of the last stage to make; no probes are fitted then.
        report: called as report(kind, **facts) while it works.
        unset: keys, tables, stages or probes that are taken out of the file before.

    Returns:
        The run's facts, as `stagewise inspect --json` prints them.

    Raises:
        StagewiseError: anything a user can act on.
    """
    pipeline = load_pipeline(Path(file), set or {}, unset)
    folder = RunFolder(Path(run) if run is not None else Path("runs") / pipeline.pipeline.name)
    make(pipeline, folder, report, until=until)
    return run_facts(folder)


def make(
    pipeline: Pipeline,
    run: RunFolder,
    report: Report,
    until: str | None = None,
    only: str | None = None,
    restart: bool = False,
    fresh: bool = False,
    probe: str | None = None,
) -> None:
    """Make what a run lacks, as its only writer.

    Args:
        pipeline: validated.
        run: the run directory.
        report: told what happens.
        until: name of the last stage to make; no probes are fitted then.
        only: name of the one stage to make; those below must be done, and no probes are fitted.
        restart: with `only`: drop its checkpoint, or encode it again if its store is damaged.
        fresh: delete everything that the run directory holds first.
        probe: name of the one probe to fit again; "" for all of them.

    Raises:
        StagewiseError: anything a user can act on.
    """
    check_names(pipeline, until or only, probe)
    with run.writing(), stoppable() as stop, considerate(), durable.disk_errors_below(run.path):
        _forget_damaged_lock(run, report)
        if fresh or (only is not None and restart):
            # Nothing is deleted for a pipeline that could not be run.
            planned_probes(plan_pipeline(pipeline, RunFolder(run.path / "nowhere"), report))
        if fresh:
            if lost := finished(run):
                report("note", text=f"deleting {lost}")
            for name in ("stages", "probes", LOCK_FILE, "events.jsonl"):
                durable.remove(run.path / name)
        if only is not None and restart:
            _restart(pipeline, run, only, report)
        plan = plan_pipeline(pipeline, run, report)
        stop.check("nothing was begun yet.")
        _carry_out(plan, stop, report, until, only, probe)


def plan_pipeline(pipeline: Pipeline, run: RunFolder, report: Report = quiet) -> Plan:
    """Plan a pipeline on its data.

    Raises:
        DataError: the data is not there, or there is nothing in it to train on.
    """
    device, dataset = device_of(pipeline), build_dataset(pipeline.data, pipeline.where("data"), report)
    for item in dataset.bad:
        report("note", text=f"left out {item.path}: {item.reason}")
    for note in dataset.notes:
        report("note", text=note)
    return make_plan(pipeline, run, _built(pipeline, dataset, device, report), device, dataset)


def outline_pipeline(pipeline: Pipeline, run: RunFolder, report: Report = quiet) -> Outline:
    """Plan a pipeline; without its data, what the size that it is known to have tells of it.

    Raises:
        DataError: the data is not there and its size is unknown.
    """
    where = pipeline.where("data")
    kind = dataset_kind(pipeline.data, where)
    with refusals(pipeline.data, where):
        there = kind.is_there(**pipeline.data.arguments)
        expected = None if there else kind.expected(**pipeline.data.arguments)
    if expected is None:
        return plan_pipeline(pipeline, run, report)
    device = device_of(pipeline)
    return make_outline(pipeline, run, _built(pipeline, expected, device, report), device, expected)


def _built(pipeline: Pipeline, data: Dataset | Expected, device: torch.device, report: Report) -> list[BuiltStage]:
    built = build_stages(pipeline, Input.of(data), device)
    for text in undeclared_files(pipeline):
        report("note", text=text)
    return built


def _carry_out(plan: Plan, stop: Stop, report: Report, until: str | None, only: str | None, probe: str | None) -> None:
    _refuse_unmade(plan, only, probe)
    probes = planned_probes(plan)
    left_out, bad = probes_left_out(probes)
    for words in left_out:
        report("note", text=words)
    if text := replaced(plan):
        report("note", text=text)
    items = write_items(plan.run, _items(plan))
    locked = plan.locked() | {"items": items, "probes": [planned.locked() for planned in probes]}
    plan.run.lock(locked)
    labels = plan_labels(plan, probes)
    if write_data(plan.run, data_facts(plan.data, labels, bad)):
        for words in [*(words for words, _ in map(label_words, labels)), *filter(None, [untested(plan)])]:
            report("note", text=words)
    _tidy(plan)
    with suppress(OSError, DiskError):  # a convenience: a read-only current folder must not stop a run
        plan.run.remember()
    release_memory(now=True)  # planning left much behind
    if probe is None and (estimated := to_make(plan, until, only)):
        to_fit = [] if until or only else [each for each in probes if not each.is_there]
        precisions = {stage.name: stage.built.precision for stage in plan.stages}
        report("note", text=computed_text(str(plan.device), torch.get_num_threads(), precisions))
        report("estimated", stages=estimated, probes=estimate(plan, to_fit).probes)
    made = False
    for position, stage in enumerate(plan.stages):
        wanted = probe is None and (only in (None, stage.name) or stage.action == "encode")
        if wanted:
            _forget_if_weights_changed(plan, position)
        if wanted and stage.action not in ("cached", "recompute"):
            _make_stage(plan, position, stop, report)
            made = True
            _drop_below(plan, position)
        if stage.name in (until, only):
            break
    else:
        made |= run_probes(plan, probes, probe, stop, report)
    if not made:
        report("note", text="nothing to do: all of it is there already.")


def _refuse_unmade(plan: Plan, only: str | None, probe: str | None) -> None:
    """Refuse to fit probes, or to make one stage, on stages that are not there, before the run is told of this plan."""
    if only is None and probe is None:
        return
    for stage in plan.stages:
        if stage.name == only:
            return
        if stage.record is None and (probe is not None or stage.action != "encode"):
            raise ConfigError(
                f"stage {stage.name} is not done ({stage.reason}): type `stagewise stage {stage.name}`, or "
                "`stagewise run FILE`."
            )


def _items(plan: Plan) -> Items:
    """Return the items of the data set, and what each is for in every stage."""
    fraction, seed = plan.pipeline.data.validation, plan.pipeline.pipeline.seed
    groups = {stage.together: [plan.stages[position].built for position in stage.together] for stage in plan.stages}
    found = {together: splits(plan.data, built, fraction, seed) for together, built in groups.items()}
    return Items(plan.data.keys, plan.data.lengths, {stage.name: found[stage.together] for stage in plan.stages})


def _forget_if_weights_changed(plan: Plan, position: int) -> None:
    """Forget a stage, and those in sync with it, that was trained on other weights than those below it now."""
    if not weights_below_changed(plan.stages, plan.stages[position]):
        return
    for member in (plan.stages[other] for other in plan.stages[position].together):
        durable.remove(member.folder)
        member.record, member.action, member.reason = None, "train", WEIGHTS_BELOW_CHANGED


def _make_stage(plan: Plan, position: int, stop: Stop, report: Report) -> None:
    stage = plan.stages[position]
    trained = stage.record is not None or read_trained(stage.folder, stage.fingerprint) is not None
    for member in (plan.stages[other] for other in stage.together):  # they are trained with it
        if stage.action == "train" and not trained:
            durable.remove(member.folder)  # what is left there is of another training
        with durable.disk_errors(member.folder):
            member.folder.mkdir(parents=True, exist_ok=True)
            durable.fsync_folder(member.folder.parent)
        durable.sweep(member.folder)
    if trained and stage.action in ("train", "resume"):
        stage.action, stage.reason = "encode", "trained in sync with the stages below"
    report("note", text=f"{stage.name} › {stage.action} ({stage.reason})")
    plan.run.event("stage", name=stage.name, action=stage.action, reason=stage.reason, folder=stage.folder.name)
    record = carry_out(plan, position, stop, report)
    release_memory(now=True)
    commit(stage.folder, record)
    stage.record, stage.action = read_record(stage.folder), "cached"
    plan.run.event("stage done", name=stage.name, folder=stage.folder.name)
    report("done", stage=stage.name, record=record)


def _forget_damaged_lock(run: RunFolder, report: Report) -> None:
    """Let a lock file that is not what was written be written again: all that it says is decided again."""
    try:
        run.locked  # noqa: B018
    except IntegrityError as error:
        report("note", text=f"{error} It is written again.")
        durable.remove(run.path / LOCK_FILE)


def _tidy(plan: Plan) -> None:
    """Finish what a kill left half done after a commit: checkpoints of done stages, stores that were dropped."""
    for position, stage in enumerate(plan.stages):
        if stage.record is None:
            continue
        durable.sweep(stage.folder)
        for name in (TRAINED, "checkpoint"):
            durable.remove(stage.folder / name)
        dropped = stage.record["store"]["state"] == "dropped"
        if dropped and (stage.action != "encode" or (stage.folder / MANIFEST).exists()):
            remove_store(stage.folder)
        _drop_below(plan, position)


def _drop_below(plan: Plan, position: int) -> None:
    """Drop the stores that are not to be kept, once nothing that is still to be made reads them."""
    for stage in plan.stages[:position]:
        written = stage.record is not None and stage.record["store"]["state"] == "written"
        if written and not stage.built.config.store.keep and _unread(plan, stage):
            assert stage.record is not None
            mark_dropped(stage.folder, stage.record)
            remove_store(stage.folder)


def _unread(plan: Plan, stage: StagePlan) -> bool:
    """Whether the stages up to the next store, which alone read this one, are done."""
    for above in plan.stages[stage.index :]:
        if above.record is None or weights_below_changed(plan.stages, above):
            return False
        if above.policy.write:
            return True
    return False  # the rows of the top are computed from it


def _restart(pipeline: Pipeline, run: RunFolder, name: str, report: Report) -> None:
    """Forget what an interrupted training of a stage left; check the store of a finished one."""
    locked = run.locked
    for number, stage in enumerate(pipeline.stage):
        if stage.name != name:
            continue
        if locked is None or locked["stages"][number]["folder"] is None:
            return
        folder = run.path / "stages" / locked["stages"][number]["folder"]
        record = read_record(folder, with_store=False)
        if record is None and read_trained(folder) is None:
            # Stages that are trained in sync have one checkpoint, and start over together.
            together = locked["stages"] if pipeline.pipeline.schedule == "simultaneous" else [locked["stages"][number]]
            left = [run.path / "stages" / facts["folder"] for facts in together if facts["folder"]]
            left = [other for other in left if other.exists() and not (other / RECORD).exists()]
            if epochs := max((done for other in left if (done := epochs_done(other)) is not None), default=0):
                report("note", text=f"stage {name}: deleting {counted(epochs, 'epoch')} of an interrupted training.")
            for other in left:
                durable.remove(other)
        elif record is None:
            remove_store(folder)  # half written
        elif record["store"]["state"] == "written" and (problems := _store_problems(folder)):
            for problem in problems:
                report("note", text=problem)
            mark_dropped(folder, record)  # what is dropped is encoded again
            remove_store(folder)


def _store_problems(folder: Path) -> list[str]:
    try:
        read_record(folder)
        return verify_store(folder)
    except IntegrityError as error:
        return [str(error)]


def check_names(pipeline: Pipeline, stage: str | None, probe: str | None = None) -> None:
    """Refuse the name of a stage or a probe that the pipeline does not have."""
    for kind, wanted, there in (("stage", stage, pipeline.stage), ("probe", probe, pipeline.probe)):
        names = [part.name for part in there]
        if wanted and wanted not in names:
            raise ConfigError(f"there is no {kind} {wanted!r}; there are: {', '.join(names) or 'none'}.")
