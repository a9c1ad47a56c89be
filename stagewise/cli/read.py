"""The verbs that look at what is there: inspect, verify, clean, doctor, schema."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from stagewise.cli.echo import echo
from stagewise.cli.options import JSON, run_argument
from stagewise.show import bytes_text, counted


@click.command()
@run_argument
@JSON
def inspect(run: Path | None, as_json: bool) -> None:
    """Show a run at a glance: loss, memory, store, probes.

    \b
    stagewise inspect
    stagewise inspect runs/full --json
    """
    from stagewise.cli.tables import print_run
    from stagewise.runs.facts import run_facts
    from stagewise.runs.folder import find_run

    facts = run_facts(find_run(run))
    click.echo(json.dumps(facts, indent=1)) if as_json else print_run(facts)


@click.command()
@run_argument
@click.option("--data", is_flag=True, help="Also compute the lowest store's rows again from the data, and compare.")
def verify(run: Path | None, data: bool) -> None:
    """Compare every byte of a run with what was written.

    Exit code 3 if anything differs.

    \b
    stagewise verify runs/full
    stagewise verify runs/full --data    also finds a file that was replaced
    """
    from stagewise.cli.progress import terminal_report
    from stagewise.errors import IntegrityError
    from stagewise.runs.folder import find_run, pipeline_of
    from stagewise.runs.verify import verify_run

    folder, other = find_run(run), list[str]()
    with terminal_report() as report:
        problems, files = verify_run(folder, report)
        if data and not problems:
            from stagewise.verify_data import verify_data

            other = verify_data(pipeline_of(folder), folder, report)
    if problems:
        raise IntegrityError(
            "\n".join([*problems, f"{folder.path}: not what was written: {len(problems)} of {counted(files, 'file')}."])
        )
    if other:
        words = f"{folder.path}: not what the run was made of: {counted(len(other), 'item')}."
        raise IntegrityError("\n".join([*other, words]))
    also = ", and the data is what the run was made of" if data else ""
    echo(f"{folder.path}: {counted(files, 'file is', 'files are')} what was written{also}.")


@click.command()
@run_argument
@click.option("--yes", is_flag=True, help="Delete without asking.")
def clean(run: Path | None, yes: bool) -> None:
    """Delete from a run what its pipeline no longer uses.

    Stages and probes of older settings, and leftovers; they are listed first.

    \b
    stagewise clean runs/full
    """
    from stagewise.errors import ConfigError
    from stagewise.runs.clean import delete, last_of_their_stage, unused
    from stagewise.runs.folder import find_run

    folder = find_run(run)
    found = unused(folder)
    for path, size in found.items():
        echo(f"{bytes_text(size):>10}  {path}")
    for name, path in last_of_their_stage(folder, list(found)).items():
        echo(f"{path.name} is the only finished {name}: with the settings of today it is not finished yet.", err=True)
    if not found:
        echo(f"{folder.path}: nothing to delete.")
        return
    try:
        what = f"{counted(len(found), 'folder')}, {bytes_text(sum(found.values()))}"
        agreed = yes or click.confirm(f"delete {what}?", err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        raise ConfigError("nobody answers here, and nothing was deleted: type --yes to delete them.") from None
    if agreed:
        delete(folder, list(found))


@click.command()
@JSON
def doctor(as_json: bool) -> None:
    """Show what this machine offers, and the versions installed.

    Every library is loaded once; exit code 1 if one fails to. It is the first thing to put into a bug report.

    \b
    stagewise doctor
    """
    from stagewise.cli.machine import machine_facts
    from stagewise.errors import StagewiseError

    facts = machine_facts()
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        for key, value in facts.items():
            if key != "problems":
                echo(f"{key:>16}  {value}")
    if facts["problems"]:
        raise StagewiseError("\n".join(facts["problems"]))


@click.command()
def schema() -> None:
    """Print the JSON Schema of a pipeline file, for editors.

    Those that use taplo, such as VS Code with Even Better TOML, complete and check a file that names it in its first
    line. It offers the short names of installed packages, too.

    \b
    stagewise schema > stagewise.schema.json
    #:schema ./stagewise.schema.json      the first line of a file beside it
    """
    from stagewise.config import json_schema

    click.echo(json.dumps(json_schema(), indent=1))
