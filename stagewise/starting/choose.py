"""A recipe for what is in a folder, in the words of a pipeline file; and whether there is one."""

from __future__ import annotations

import re
import shlex
import textwrap
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stagewise.datasets.audio_files import MEAN, STD
from stagewise.datasets.audio_folder import AudioFolder
from stagewise.datasets.base import Dataset
from stagewise.datasets.construct import LABELS_ADVICE, build_dataset, check_labelled
from stagewise.errors import ConfigError, DataError
from stagewise.pipeline import Pipeline
from stagewise.pipeline.read import load_text
from stagewise.starting.audio import audio_recipe, loudness
from stagewise.starting.images import images_recipe
from stagewise.starting.recipe import Line, Machine, Recipe, comment, table
from stagewise.starting.survey import Pictures, Recordings, facts, words
from stagewise.text import about_text, bytes_text, counted, seconds_text

BUDGET = 2 * 3600.0  # seconds of all stages and probes together


@dataclass(frozen=True)
class Pace:
    """How long a stage trains, and about how long that takes.

    Attributes:
        epochs: at most.
        patience: epochs without a better validation loss that end training.
        windows_per_item: of an epoch.
        items: that are trained on.
        steps: of an epoch.
        seconds: that all of it, with encoding and probes, is estimated to take at most; once it was planned.
        budget: seconds that it may take.
    """

    epochs: int
    patience: int
    windows_per_item: int
    items: int
    steps: int
    seconds: float = 0.0
    budget: float = BUDGET

    def shortened(self, epochs: int) -> Pace:
        """Return the same with fewer epochs."""
        return replace(self, epochs=epochs, patience=patience_of(epochs))


def patience_of(epochs: int) -> int:
    """Return after how many epochs without a better loss training ends."""
    return max(1, min(10, epochs // 3))


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


ANY_MACHINE = Machine(
    None, 0, 0, 1
)  # what can be made of a folder depends on none, and to look at this one takes torch
FIRST_GUESS = Pace(1, 1, 1, 1, 1)


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
            why = str(error).removeprefix(f"probe {probe.name}: ").removesuffix(f". {LABELS_ADVICE}")
            refused[probe.labels] = f"no probe for {probe.labels}: {why}"
    return recipe.without(refused), rough, dataset


def _rough(
    recipe: Recipe, content: Recordings | Pictures, machine: Machine, name: str, file: Path
) -> tuple[Pipeline, Dataset]:
    text = pipeline_text(recipe, FIRST_GUESS, content, machine, name, file)
    encoded(text)
    rough = load_text(text, str(file))
    return rough, build_dataset(rough.data, rough.where("data"))


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


def pipeline_text(
    recipe: Recipe,
    chosen: Pace,
    content: Recordings | Pictures,
    machine: Machine,
    name: str,
    file: Path,
    limit: int | None = None,
    room: int | None = None,
) -> str:
    """Write a recipe as a pipeline file.

    Args:
        recipe: what suits the folder.
        chosen: how long it is trained.
        content: of the folder.
        machine: to train on.
        name: of the pipeline.
        file: that the text is for.
        limit: bytes that a step may take; None: what it takes.
        room: bytes that stores may take; None: most of what is free.
    """
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
    parts += [
        f"[[probe]]\n{table(_probe(label, number, recipe.images))}" for number, label in enumerate(recipe.labels, 1)
    ]
    if recipe.phones:
        parts.append(f"[[probe]]\n{table(PHONES)}")
    elif not recipe.labels:
        parts.append(NO_CLASSES if recipe.images else NO_PROBE)
    return "\n\n".join(parts) + "\n"


def _probe(label: str, number: int, images: bool) -> list[Line]:
    pool = ("mean", "") if images else ("mean+std", "of an item's rows: how far they spread tells more than their mean")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("._-")
    return [
        (
            "name",
            name if name == label and len(name) <= 64 else f"{name[:60] or 'label'}-{number}",
            "how well a linear reader of each stage tells these apart",
        ),
        ("stages", "all", ""),
        ("labels", label, ""),
        ("pool", *pool),
        ("random", True, "beside the same stages before training: what is the training worth?"),
        ("epochs", 200, "few items make few steps: enough for a linear reader of them to converge"),
        ("optimizer", {"target": "torch.optim:Adam", "lr": 0.01}, ""),
    ]


def _train(recipe: Recipe, chosen: Pace) -> list[Line]:
    patience = (chosen.patience, "epochs without a better validation loss that end it")
    if recipe.falls:
        patience = (chosen.epochs, "all of them: no stage ends before its learning rate has fallen")
    lines: list[Line] = [
        ("epochs", chosen.epochs, "of every stage" if recipe.falls else "at most: training ends at convergence"),
        ("patience", *patience),
        ("batch_size", recipe.batch_size, "windows of a step, as in the paper"),
    ]
    if not recipe.images:
        lines.append(("windows_per_item", chosen.windows_per_item, "windows of a file and epoch"))
    lines.append(("optimizer", {"target": "torch.optim:Adam", "lr": recipe.learning_rate}, recipe.why_rate))
    return lines + [("schedule", {"target": "warmup-cosine"}, "up to that rate, and down to zero")] * recipe.falls


def _reasons(recipe: Recipe, chosen: Pace, files: int) -> str:
    """Say why there are so many epochs."""
    what, each = ("image", ", one crop of each an epoch") if recipe.images else ("file", "")
    patience = counted(chosen.patience, "epoch")
    ends = "" if recipe.falls else f"; a stage stops earlier, after {patience} without a better validation loss"
    told = (
        f"For training: {chosen.items:,} of {counted(files, what)}{each}; what is for testing, and a part of the rest "
        f"that tells when to stop, is left out. An epoch has {counted(chosen.steps, 'step')}. At most "
        f"{counted(chosen.epochs, 'epoch')} of each of "
        f"the {len(recipe.stages)} stages, the encoding and the probes are estimated at "
        f"{about_text(chosen.seconds)} on this machine "
        f"if nothing else runs on it, give or take a factor of three{ends}. The "
        f"aim is {about_text(chosen.budget).replace('.0 ', ' ')} at most, and at most 20,000 steps of a stage; more is "
        "likely to do better."
    )
    tried = (
        "To rehearse it first: --set defaults.train.epochs=2; the encoder of a rehearsal is usually no better than "
        "random weights."
    )
    return "\n".join(f"# {line}" for text in (told, tried) for line in textwrap.wrap(text, 116))


def verdict(content: Recordings | Pictures, alone: bool) -> dict[str, Any]:
    """Choose a recipe as `init` does, and say what came of it, JSON-able.

    Args:
        content: of a folder.
        alone: whether it is all there is, of whatever kind.
    """
    try:
        recipe, _, _ = choose(content, ANY_MACHINE, "pipeline", Path("pipeline.toml"))
    except (ConfigError, DataError) as error:
        to_choose = isinstance(error, ConfigError)
        return {"fit": False, "why": str(error), "to_choose": to_choose, "notes": content.notes}
    typed = ["stagewise", "init", str(content.root), *([] if alone else ["--kind", content.kind])]
    typed += [] if content.labels is None else ["--labels", content.labels]
    return {
        "fit": True,
        "items": recipe.items,
        "of": recipe.items if recipe.counted is None else recipe.counted,
        "too_short": recipe.short,
        "labels": {label: dict(classes.most_common()) for label, classes in recipe.labels.items()},
        "phones": recipe.phones,
        "notes": recipe.notes,
        "next": shlex.join(typed),
    }


def verdict_words(found: dict[str, Any]) -> list[str]:
    """Say what `facts` and `verdict` found: labels, what is too short, what is not used, and last what to type."""
    if not found["fit"]:
        return [*found["notes"], f"not fit to train on: {found['why'].partition(chr(10))[0].rstrip(':')}"]
    lines = []
    for label, classes in found["labels"].items():
        (most, many), *_, (least, few) = classes.items()
        without = found["of"] - sum(classes.values())
        files = counted(many, "file")
        span = f"{files} each" if few == many else f"{few:,} ({least}) to {files} ({most})"
        lines.append(
            f"label {label}: {len(classes):,} classes of {span}" + (f"; {without:,} without" if without > 0 else "")
        )
    lines += found["notes"]
    what = counted(found["items"], "recording" if found["kind"] == "audio" else "image")
    if found["too_short"]:
        what = f"{found['items'] - found['too_short']:,} of {what} (the others do not fill a training window)"
    all_used = found["items"] == found["usable"] and not found["too_short"]
    long = [seconds_text(found["seconds"])] if found["kind"] == "audio" and all_used else []
    labels = [*found["labels"], *(["phones"] if found["phones"] else [])]
    known = f"labels: {', '.join(labels)}" if labels else "no labels found"
    return [*lines, f"fit to train on: {', '.join([what, *long, known])}; next: {found['next']}"]
