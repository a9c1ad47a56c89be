"""The pipeline file that suits a folder and this machine: chosen, written in words, and planned before it is kept."""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

from stagewise.config import Pipeline
from stagewise.config.load import load_text
from stagewise.datasets.audio_files import MEAN, STD
from stagewise.datasets.audio_folder import AudioFolder
from stagewise.datasets.base import Dataset
from stagewise.errors import ConfigError, DataError
from stagewise.planning.build import Input, build_dataset, build_stages, device_of
from stagewise.planning.check import LABELS_REMEDY, check_labelled
from stagewise.planning.duration import durations, estimate
from stagewise.planning.plan import SPARE_DISK, Plan, make_plan
from stagewise.planning.policy import decide, forward_flops, total_rows
from stagewise.runner import Report, quiet
from stagewise.runs.folder import RunFolder
from stagewise.show import about_text, bytes_text, counted
from stagewise.starting.audio import audio_recipe, loudness
from stagewise.starting.facts import facts, words
from stagewise.starting.images import images_recipe
from stagewise.starting.look import Pictures, Recordings
from stagewise.starting.machine import Machine
from stagewise.starting.pace import BUDGET, Pace, pace
from stagewise.starting.recipe import Line, Recipe, comment, table

SHARE = {False: 0.5, True: 0.8}  # of the memory that training may take, by whether it is a GPU's
DISK_SHARE = 0.25  # of what is free, that stores may take
PHONES: list[Line] = [
    ("name", "phones", "how well a linear reader of every row tells which phone is said"),
    ("stages", ["context"], ""),
    ("labels", "phones", ""),
    ("random", True, ""),
    ("epochs", 20, ""),
    ("batch_size", 256, "rows of a step"),
]
NO_PROBE = """\
# There is no probe: no labels were found that a probe could learn and be tested on. With a table species.csv, whose
# first line is file,species and whose files are written as they lie below the root (or folder,species, and a line for
# each folder), write
# labels = { species = "species.csv" } into [data], before anything is trained, and here
# [[probe]]
# name = "species"
# stages = "all"
# labels = "species"
# pool = "mean"
# random = true
# epochs = 200
# optimizer = { target = "torch.optim:Adam", lr = 0.01 }"""
NO_CLASSES = """\
# There is no probe: no classes were found that it could learn and be tested on. Classes are folders of several images
# each (in train and in test, where there are both). Put the images into such before anything is trained, and here
# [[probe]]
# name = "class"
# stages = "all"
# labels = "class"
# pool = "mean"
# random = true
# epochs = 200
# optimizer = { target = "torch.optim:Adam", lr = 0.01 }"""
FIRST_GUESS = Pace(1, 1, 1, 1, 1)


def start(
    content: Recordings | Pictures, machine: Machine, name: str, file: Path, report: Report = quiet
) -> tuple[str, Plan]:
    """Choose a pipeline for what is in a folder; nothing is written.

    Args:
        content: of the folder.
        machine: to train on.
        name: of the pipeline.
        file: that the text is for.
        report: what is told of progress.

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
    few, most = (decide(rough, built, flops, rows, int(machine.disk_free * s)) for s in (DISK_SHARE, SPARE_DISK))
    same = [(p.write, p.compress) for p in few] == [(p.write, p.compress) for p in most]
    room = None if same else int(machine.disk_free * DISK_SHARE)

    def planned(chosen: Pace, limit: int | None, locked: dict[str, Any] | None = None) -> tuple[str, Plan]:
        text = _text(recipe, chosen, content, machine, name, file, limit, room)
        pipeline = load_text(text, str(file))
        built = build_stages(pipeline, Input.of(dataset), device)
        return text, make_plan(pipeline, RunFolder(Path("runs") / name), built, device, dataset, locked)

    limit = None
    _, plan = planned(FIRST_GUESS, limit)
    most_memory = int(machine.memory * SHARE[machine.gpu is not None])
    if max(stage.forecast.bytes.peak for stage in plan.stages) > most_memory:
        limit = most_memory
        _, plan = planned(FIRST_GUESS, limit)
    chosen, locked = pace(plan), plan.locked()
    _, plan = planned(chosen, limit, locked)
    # A step of the top has as many windows as fit in; those below, whose windows are shorter, may take more of them.
    training = sum(stage.train for stage in durations(plan))
    if training > 1.1 * BUDGET and chosen.epochs > 1:
        chosen = chosen.shortened(max(1, int(chosen.epochs * BUDGET / training)))
        _, plan = planned(chosen, limit, locked)
    return planned(replace(chosen, seconds=estimate(plan).seconds), limit, locked)


def choose(content: Recordings | Pictures, machine: Machine, name: str, file: Path) -> tuple[Recipe, Pipeline, Dataset]:
    """Choose what suits a folder, and see that the data can be read, and its labels learnt, so.

    Args:
        content: of the folder.
        machine: to train on.
        name: of the pipeline.
        file: that it is for.

    Returns:
        the recipe without labels that no probe could learn, the pipeline that it makes but for its epochs, and the
        data.

    Raises:
        ConfigError: a path cannot be written down.
        DataError: too many files are bad, or what there is cannot be trained on.
    """
    gpu = machine.gpu is not None
    recipe = audio_recipe(content, gpu) if isinstance(content, Recordings) else images_recipe(content, gpu)
    rough, dataset = _rough(recipe, content, machine, name, file)
    if isinstance(dataset, AudioFolder) and (lines := loudness(dataset, (MEAN, STD))):
        recipe = replace(recipe, data=[*recipe.data, *lines])
        rough, dataset = _rough(recipe, content, machine, name, file)
    refused = {}
    for probe in rough.probe:
        try:
            check_labelled(probe, dataset)
        except DataError as error:
            why = str(error).removeprefix(f"probe {probe.name}: ").removesuffix(f". {LABELS_REMEDY}")
            refused[probe.labels] = f"no probe for {probe.labels}: {why}"
    return recipe.without(refused), rough, dataset


def _rough(
    recipe: Recipe, content: Recordings | Pictures, machine: Machine, name: str, file: Path
) -> tuple[Pipeline, Dataset]:
    text = _text(recipe, FIRST_GUESS, content, machine, name, file)
    encoded(text)
    rough = load_text(text, str(file))
    return rough, build_dataset(rough)


def encoded(text: str) -> bytes:
    """Return a file's bytes.

    Raises:
        ConfigError: it names a folder that is not UTF-8.
    """
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ConfigError(
            "the folder's name is not UTF-8, and a pipeline file cannot say it: rename the folder."
        ) from None


def _text(
    recipe: Recipe,
    chosen: Pace,
    content: Recordings | Pictures,
    machine: Machine,
    name: str,
    file: Path,
    limit: int | None = None,
    room: int | None = None,
) -> str:
    typed = shlex.quote(str(file))
    settings: list[Line] = [("name", name, "")]
    if limit is not None:
        settings.append(("memory_limit", bytes_text(limit), "steps that need more are computed in pieces, to the same"))
    if room is not None:
        settings.append(
            ("disk_limit", bytes_text(room), "a quarter of what is free: larger stores are computed again, and again")
        )
    head = [
        f"Written by `stagewise init` for {content.root}: a start, to be changed at will.",
        *(f"  {line}" for line in words(facts(content))),
        f"for a machine with {machine.words}.",
        f"  stagewise plan {typed}",
        f"  stagewise run {typed}",
    ]
    parts = [
        "\n".join(f"# {comment(line)}".rstrip() for line in head) + "\nformat = 1",
        f"[pipeline]\n{table(settings)}",
        "\n".join(["[data]", *(f"# {comment(note)}" for note in recipe.notes), table(recipe.data)]),
        f"{_reasons(recipe, chosen, len(content.names))}\n[defaults.train]\n{table(_train(recipe, chosen))}",
        f"[defaults.objective]\n{table(recipe.objective)}",
        *([f"[defaults.store]\n{table(recipe.store)}"] if recipe.store else []),
        *(f"[[stage]]\n{table(lines)}" for lines in recipe.stages),
    ]
    parts += [f"[[probe]]\n{table(_probe(label, number))}" for number, label in enumerate(recipe.labels, 1)]
    if recipe.phones:
        parts.append(f"[[probe]]\n{table(PHONES)}")
    elif not recipe.labels:
        parts.append(NO_CLASSES if recipe.images else NO_PROBE)
    return "\n\n".join(parts) + "\n"


def _probe(label: str, number: int) -> list[Line]:
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("._-")
    return [
        (
            "name",
            name if name == label and len(name) <= 64 else f"{name[:60] or 'label'}-{number}",
            "how well a linear reader of each stage tells these apart",
        ),
        ("stages", "all", ""),
        ("labels", label, ""),
        ("pool", "mean", ""),
        ("random", True, "beside the same stages before training: what is the training worth?"),
        ("epochs", 200, "few items make few steps: enough for a linear reader of them to converge"),
        ("optimizer", {"target": "torch.optim:Adam", "lr": 0.01}, ""),
    ]


def _train(recipe: Recipe, chosen: Pace) -> list[Line]:
    lines: list[Line] = [
        ("epochs", chosen.epochs, "at most: training ends at convergence"),
        ("patience", chosen.patience, "epochs without a better validation loss that end it"),
        ("batch_size", recipe.batch_size, "windows of a step, as in the paper"),
    ]
    if not recipe.images:
        lines.append(("windows_per_item", chosen.windows_per_item, "windows of a file and epoch"))
    return [*lines, ("optimizer", {"target": "torch.optim:Adam", "lr": recipe.learning_rate}, recipe.why_rate)]


def _reasons(recipe: Recipe, chosen: Pace, files: int) -> str:
    """Say why there are so many epochs."""
    what, each = ("image", ", one crop of each an epoch") if recipe.images else ("file", "")
    told = (
        f"For training: {chosen.items:,} of {counted(files, what)}{each}; what is for testing, and a part of the rest "
        f"that tells when to stop, is left out. An epoch has {counted(chosen.steps, 'step')}. At most "
        f"{counted(chosen.epochs, 'epoch')} of each of "
        f"the {len(recipe.stages)} stages, the encoding and the probes are reckoned at "
        f"{about_text(chosen.seconds)} on this machine "
        "if nothing else runs on it, give or take a factor of three; a stage stops earlier, after "
        f"{counted(chosen.patience, 'epoch')} without a better validation loss. The "
        "aim is two hours at most, and at most 20,000 steps of a stage; more is likely to do better."
    )
    tried = (
        "To rehearse it first: --set defaults.train.epochs=2; the encoder of a rehearsal is usually no better than "
        "random weights."
    )
    return "\n".join(f"# {line}" for text in (told, tried) for line in textwrap.wrap(text, 116))
