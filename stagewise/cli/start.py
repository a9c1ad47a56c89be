"""The verb that makes a first pipeline file: init."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from stagewise.cli import options
from stagewise.cli.echo import echo
from stagewise.show import counted


@click.command()
@click.argument("folder", type=options.PLACE)
@options.kind("Which files to take; the more frequent ones when left out.")
@options.LABELS
@click.option("--out", metavar="FILE", type=options.PLACE, help="Pipeline file to write; NAME.toml when left out.")
@click.option("--force", is_flag=True, help="Overwrite the file if it is there.")
def init(
    folder: Path, kind: Literal["audio", "images"] | None, labels: str | None, out: Path | None, force: bool
) -> None:
    """Write a pipeline file that fits a FOLDER and this machine.

    FOLDER holds audio files or images. The file says why its values were chosen. Then its plan is printed, as
    `stagewise plan` does.

    \b
    stagewise init data/birds
    stagewise init digits --labels "{digit}_{speaker}_*.wav"
    stagewise init /photos --kind images --out pipelines/photos.toml
    """
    from stagewise import atomic
    from stagewise.cli.progress import terminal_report
    from stagewise.datasets.bad_items import remembering
    from stagewise.datasets.kinds import find
    from stagewise.errors import ConfigError
    from stagewise.starting.look import look
    from stagewise.starting.machine import this_machine

    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")[:64] or "pipeline"
    file = out or Path(f"{name}.toml")
    if out is not None and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", out.stem):
        name = out.stem
    if file.is_dir() or (blocked := next((place for place in file.parents if place.is_file()), None)):
        place = file if file.is_dir() else blocked
        raise ConfigError(f"{file} cannot be written: {place} is in its place. Name another with --out.")
    if file.exists() and not force:
        raise ConfigError(f"{file} is there already: name another with --out, or type --force to overwrite it.")
    found = find(folder)
    taken = kind or found.kinds[0]
    if not found.count(taken):
        raise ConfigError(f"{folder} holds no {'audio files' if taken == 'audio' else 'images'}: leave --kind out.")
    for other in found.kinds:
        if other != taken:
            echo(
                f"{folder} holds {counted(found.count('audio'), 'audio file')} and "
                f"{counted(found.count('images'), 'image')}: took {taken}; type --kind {other} to take the others.",
                err=True,
            )
    with terminal_report() as report, remembering():
        content = replace(look(found, taken, report), labels=labels)
        report("note", text=f"choosing a pipeline for {counted(len(content.names), 'file')} and planning it …")
        from stagewise.cli.tables import print_plan  # these take seconds, too
        from stagewise.planning.facts import plan_facts
        from stagewise.starting.write import encoded, start

        text, plan = start(content, this_machine(), name, file, report)
    written = encoded(text)
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(file, written)
    echo(f"{file} is written. Look at it, then type: stagewise run {shlex.quote(str(file))}")
    print_plan(plan_facts(plan))
