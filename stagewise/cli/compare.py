"""The verb that puts runs beside each other: compare."""

from __future__ import annotations

import json
from pathlib import Path

import click

from stagewise.cli import completion
from stagewise.cli.options import JSON, PLACE
from stagewise.show import counted


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=PLACE, shell_complete=completion.runs)
@JSON
@click.option("--markdown", "as_markdown", is_flag=True, help="Print tables to paste into a Markdown file.")
def compare(runs: tuple[Path, ...], as_json: bool, as_markdown: bool) -> None:
    """Put runs beside each other, and beside what was published.

    One row per system (`pipeline.system`), with the mean over the runs of several seeds; one table per probe, on the
    topmost stage that it reads, and one of all the stages that it reads.

    \b
    stagewise compare runs/*
    stagewise compare runs/gim-0 runs/gim-1 runs/cpc --markdown
    """
    from stagewise.cli.tables import print_warning, printable_facts
    from stagewise.comparing.collect import compare_runs
    from stagewise.comparing.tables import markdown, print_sheets
    from stagewise.errors import IntegrityError
    from stagewise.runs.folder import LAST, LOCK_FILE, find_run

    if as_json and as_markdown:
        raise click.UsageError("--json and --markdown exclude each other.")
    # The shell's `runs/*` also names the file that says which run was the last.
    named = [path for path in runs if not (path.name == LAST.name and path.is_file())] or runs
    # And folders of runs that were refused before they began.
    empty = [path for path in named if path.is_dir() and not (path / LOCK_FILE).exists()]
    if len(empty) < len(named):
        for path in empty:
            print_warning(f"{path} is left out: nothing was run there yet.")
        named = [path for path in named if path not in empty]
    places: dict[Path, Path] = {}
    for path in named:
        places.setdefault(path.resolve(), path)
    facts = compare_runs([find_run(path) for path in places.values()])
    for warning in facts["warnings"]:
        print_warning(warning)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    elif as_markdown:
        click.echo(markdown(printable_facts(facts)))
    else:
        print_sheets(printable_facts(facts))
    if damaged := facts["damaged"]:
        raise IntegrityError("\n".join([*damaged, f"left out: {len(damaged)} of {counted(len(places), 'run')}."]))
