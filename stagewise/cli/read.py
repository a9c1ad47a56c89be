"""The verbs that look at what is there: inspect, verify, clean, doctor, schema, report, compare."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from stagewise.cli import completion
from stagewise.cli.options import JSON, PLACE, echo, run_argument
from stagewise.errors import ConfigError
from stagewise.text import bytes_text, counted


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
@click.option("--data", is_flag=True, help="Also compare the data: items, labels, and the rows of the lowest store.")
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
    from stagewise.verify import verify_run

    folder, other = find_run(run), list[str]()
    with terminal_report() as report:
        problems, files = verify_run(folder, report)
        if data and not problems:
            from stagewise.verify import verify_data

            other = verify_data(pipeline_of(folder), folder, report)
    if problems:
        raise IntegrityError(
            "\n".join([*problems, f"{folder.path}: not what was written: {len(problems)} of {counted(files, 'file')}."])
        )
    if other:
        words = f"{folder.path}: not what the run was made of: {counted(len(other), 'difference')}."
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
        raise ConfigError("no terminal to confirm at, so nothing was deleted: type --yes to delete them.") from None
    if agreed:
        delete(folder, list(found))
        echo(f"{folder.path}: deleted {what}.")


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
    from stagewise.pipeline import json_schema

    click.echo(json.dumps(json_schema(), indent=1))


@click.command()
@click.argument("runs", metavar="[RUN]...", nargs=-1, type=PLACE, shell_complete=completion.runs)
@click.option(
    "--out",
    metavar="FILE.html",
    type=PLACE,
    help="Where to write; RUN/report.html, or report.html for several runs, when left out.",
)
@click.option(
    "--exciting",
    is_flag=True,
    help="Also show what excites a few neurons of every stage; needs the data: one pass over its test items a stage.",
)
def report(runs: tuple[Path, ...], out: Path | None, exciting: bool) -> None:
    """Write one HTML file about one or several runs.

    It shows loss curves, probes at each depth and memory, and unfinished runs as far as they are. It needs no network.

    \b
    stagewise report
    stagewise report runs/iterative runs/simultaneous --out figures.html
    stagewise report runs/full --exciting
    """
    from stagewise.cli.progress import terminal_report
    from stagewise.runs.folder import find_run

    try:
        from stagewise.results.report import write_report
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise ConfigError("a report needs matplotlib: type `pip install 'stagewise[report]'`.") from None

    folders = [find_run(path) for path in dict.fromkeys(runs or (None,))]
    file = out or (folders[0].path / "report.html" if len(folders) == 1 else Path("report.html"))
    with terminal_report() as told:
        write_report(folders, file, told, exciting)
    click.echo(file)


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
    from stagewise.errors import IntegrityError
    from stagewise.results.compare import compare_runs, markdown, print_sheets
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
