"""How long a chosen pipeline trains, and the plan of it: both known before its file is written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from stagewise.pipeline.read import load_text
from stagewise.planning.build import Input, build_stages, device_of
from stagewise.planning.check import hold_out
from stagewise.planning.duration import durations, estimate
from stagewise.planning.plan import SPARE_DISK, Plan, make_plan
from stagewise.planning.stores import decide, forward_flops, total_rows
from stagewise.runner import Report, quiet
from stagewise.runs.folder import RunFolder
from stagewise.starting.choose import BUDGET, FIRST_GUESS, Pace, choose, patience_of, pipeline_text
from stagewise.starting.recipe import Machine
from stagewise.starting.survey import Pictures, Recordings
from stagewise.training.windows import Windows

# How many epochs, and windows of an item in each, train a pipeline in a sensible time.

MOST_EPOCHS, MOST_STEPS = 1000, 20_000  # of a stage
FEWEST_EPOCHS = 10  # that should fit in, before an epoch takes fewer windows of an item


def pace(plan: Plan, budget: float = BUDGET) -> Pace:
    """Choose the epochs so that training ends in some time, or after 20,000 steps of every stage.

    Args:
        plan: of the pipeline with any number of epochs; all of its stages have the same batch size.
        budget: seconds that it may take.
    """
    pipeline, dataset, top = plan.pipeline, plan.data, plan.stages[-1].built
    train, _ = hold_out(dataset.pool(), pipeline.data.validation, pipeline.pipeline.seed)
    estimated, batch_size = durations(plan), top.config.train.batch_size
    window = sum(stage.step for stage in estimated) / batch_size
    per_item, items = 1, max(1, len(train))
    if top.grid is None:
        cover = Windows(train, dataset.lengths, top.geometry, top.rows, "cover").counts
        items = max(1, int((cover > 0).sum()))
        # Not all: the lowest stage's windows are 32 times shorter than the fifth's, and it would take as many more.
        affordable = min(budget / window, MOST_STEPS * batch_size) / FEWEST_EPOCHS
        per_item = max(1, int(min(cover.sum(), affordable) / items))
    epoch = items * per_item
    steps = max(1, epoch // batch_size)
    epochs = max(1, min(MOST_EPOCHS, MOST_STEPS // steps, int(budget / (epoch * window))))
    return Pace(epochs, patience_of(epochs), per_item, items, steps, budget=budget)


SHARE = {False: 0.5, True: 0.8}  # of the memory that training may take, by whether it is a GPU's
DISK_SHARE = 0.25  # of what is free, that stores may take


def start(
    content: Recordings | Pictures,
    machine: Machine,
    name: str,
    file: Path,
    report: Report = quiet,
    budget: float = BUDGET,
) -> tuple[str, Plan]:
    """Choose a pipeline for what is in a folder; nothing is written.

    Args:
        content: of the folder.
        machine: to train on.
        name: of the pipeline.
        file: that the text is for.
        report: what is told of progress.
        budget: seconds that all stages and probes may take, as far as that can be told.

    Returns:
        the text of the file, and the plan of it.

    Raises:
        ConfigError: a path cannot be written down, or the stages do not fit into the memory.
        DataError: too many files are bad, or what there is cannot be trained on.
    """
    recipe, rough, dataset = choose(content, machine, name, file)
    device = device_of(rough)
    for note in recipe.notes:
        report("note", text=note)
    for item in dataset.bad:
        report("note", text=f"left out {item.path}: {item.reason}")
    built = build_stages(rough, Input.of(dataset), device)
    flops = [forward_flops(stage) for stage in built]
    rows = [total_rows(dataset.lengths, stage) for stage in built]
    few, most = (
        decide(rough.pipeline.disk_limit, built, flops, rows, int(machine.disk_free * s))
        for s in (DISK_SHARE, SPARE_DISK)
    )
    same = [(p.write, p.compress) for p in few] == [(p.write, p.compress) for p in most]
    room = None if same else int(machine.disk_free * DISK_SHARE)

    def planned(chosen: Pace, limit: int | None, locked: dict[str, Any] | None = None) -> tuple[str, Plan]:
        text = pipeline_text(recipe, chosen, content, machine, name, file, limit, room)
        pipeline = load_text(text, str(file))
        built = build_stages(pipeline, Input.of(dataset), device)
        return text, make_plan(pipeline, RunFolder(Path("runs") / name), built, device, dataset, locked)

    limit = None
    _, plan = planned(FIRST_GUESS, limit)
    most_memory = int(machine.memory * SHARE[machine.gpu is not None])
    if max(stage.forecast.bytes.peak for stage in plan.stages) > most_memory:
        limit = most_memory
        _, plan = planned(FIRST_GUESS, limit)
    chosen, locked = pace(plan, budget), plan.locked()
    _, plan = planned(chosen, limit, locked)
    # A step of the top has as many windows as fit in; those below, whose windows are shorter, may take more of them.
    # And encoding and probes take their time, too.
    training, whole = sum(stage.train for stage in durations(plan)), estimate(plan).seconds
    if whole > 1.1 * budget and chosen.epochs > 1:
        chosen = chosen.shortened(max(1, int(chosen.epochs * max(0.0, budget - whole + training) / training)))
        _, plan = planned(chosen, limit, locked)
    return planned(replace(chosen, seconds=estimate(plan).seconds), limit, locked)


# Whether `init` can make a pipeline of what is in a folder, as facts for programs and in words.
