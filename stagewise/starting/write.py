"""The pipeline file that suits a folder and this machine: chosen, written in words, and planned before it is kept."""

from __future__ import annotations

import shlex
import textwrap
from pathlib import Path

from stagewise.config.load import load_text
from stagewise.errors import ConfigError
from stagewise.planning.build import Input, build_stages, device_of
from stagewise.planning.plan import Plan
from stagewise.runner import Report, plan_pipeline, quiet
from stagewise.runs.folder import RunFolder
from stagewise.show import bytes_text
from stagewise.starting.audio import audio_recipe
from stagewise.starting.facts import facts, words
from stagewise.starting.images import images_recipe
from stagewise.starting.look import Pictures, Recordings
from stagewise.starting.machine import Machine
from stagewise.starting.pace import Pace, pace
from stagewise.starting.recipe import Line, Recipe, comment, table

SHARE = {False: 0.5, True: 0.8}  # of the memory that training may take, by whether it is a GPU's
FIRST_GUESS = Pace(1, 1, 1, 1, 0.0)


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
    recipe = audio_recipe(content, machine) if isinstance(content, Recordings) else images_recipe(content, machine)

    def text(chosen: Pace, limit: int | None = None) -> str:
        return _text(recipe, chosen, content, machine, name, file, limit)

    rough = load_text(text(FIRST_GUESS), str(file))
    built = build_stages(rough, Input.of(recipe.expected), device_of(rough))
    chosen = pace(recipe, built, machine)
    run = RunFolder(Path("runs") / name)
    written = text(chosen)
    plan = plan_pipeline(load_text(written, str(file)), run, report)
    limit = int(machine.memory * SHARE[machine.gpu is not None])
    if max(stage.forecast.bytes.peak for stage in plan.stages) > limit:
        written = text(chosen, limit)
        plan = plan_pipeline(load_text(written, str(file)), run)
    return written, plan


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
    limit: int | None,
) -> str:
    typed = shlex.quote(str(file))
    settings: list[Line] = [("name", name, "")]
    if limit is not None:
        settings.append(("memory_limit", bytes_text(limit), "steps that need more are computed in pieces, to the same"))
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
        f"[data]\n{table(recipe.data)}",
        f"{_reasons(recipe, chosen)}\n[defaults.train]\n{table(_train(recipe, chosen))}",
        f"[defaults.objective]\n{table(recipe.objective)}",
        *(f"[[stage]]\n{table(lines)}" for lines in recipe.stages),
    ]
    if recipe.label:
        probe: list[Line] = [
            ("name", recipe.label, "how well a linear reader of each stage tells these apart"),
            ("stages", "all", ""),
            ("labels", recipe.label, ""),
            ("pool", "mean", ""),
        ]
        parts.append(f"[[probe]]\n{table(probe)}")
    return "\n\n".join(parts) + "\n"


def _train(recipe: Recipe, chosen: Pace) -> list[Line]:
    lines: list[Line] = [
        ("epochs", chosen.epochs, "at most: training ends at convergence"),
        ("patience", chosen.patience, "epochs without a better validation loss that end it"),
        ("batch_size", recipe.batch_size, ""),
    ]
    if not recipe.images:
        lines.append(("windows_per_item", chosen.windows_per_item, "windows of a file and epoch"))
    return [*lines, ("optimizer", {"target": "torch.optim:Adam", "lr": recipe.learning_rate}, "")]


def _reasons(recipe: Recipe, chosen: Pace) -> str:
    """Say why there are so many epochs."""
    what = f"{recipe.windows:,} images, one crop of each," if recipe.images else f"{recipe.expected.items:,} files"
    told = (
        f"{what} make {chosen.steps:,} steps an epoch. So many epochs of all {len(recipe.stages)} stages, and the "
        f"encoding, are reckoned at {_about(chosen.seconds)} on this machine, give or take a factor of three. The aim "
        "is two hours at most, and at most 20,000 steps of a stage; more is likely to do better."
    )
    return "\n".join(f"# {line}" for line in textwrap.wrap(told, 116))


def _about(seconds: float) -> str:
    """Write a time as roughly as it is known."""
    if seconds < 100:
        return "a minute or two"
    return f"{seconds / 60:.0f} minutes" if seconds < 6000 else f"{seconds / 3600:.1f} hours"
