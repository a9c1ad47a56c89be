"""The verb that shows runs in pictures: report."""

from __future__ import annotations

from pathlib import Path

import click

from stagewise.cli import completion
from stagewise.cli.options import PLACE


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
    from stagewise.reporting.report import write_report
    from stagewise.runs.folder import find_run

    folders = [find_run(path) for path in dict.fromkeys(runs or (None,))]
    file = out or (folders[0].path / "report.html" if len(folders) == 1 else Path("report.html"))
    with terminal_report() as told:
        write_report(folders, file, told, exciting)
    click.echo(file)
