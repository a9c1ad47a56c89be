"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from stagewise.cli import completion


class Place(click.Path):
    """A path; an empty one, which a shell makes of a variable that is not set, is not the folder one is in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path, and take all others."""
        if value == "":
            self.fail("is empty: is a variable not set?", param, ctx)
        return super().convert(value, param, ctx)


PLACE = Place(path_type=Path)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def run_argument(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument RUN, which may also be typed as an option, as those that make a run have it."""

    @click.argument("run", required=False, type=PLACE, shell_complete=completion.runs)
    @click.option("--run", "other", metavar="DIR", type=PLACE, help="The same as RUN.", shell_complete=completion.runs)
    @wraps(command)
    def either(run: Path | None, other: Path | None, **others: Any) -> None:
        if run is not None and other is not None:
            raise click.UsageError("the run is named twice: leave --run out.")
        command(run=run or other, **others)

    return either


FORCE = click.option("--force", is_flag=True, help="Replace what is there, once the new one is whole.")
LABELS = click.option(
    "--labels",
    metavar="WHAT",
    help="Labels to take: names of columns and folders' classes (class), a pattern of the files' names, or none.",
)


def kind(which: str) -> Callable[[Any], Any]:
    """Return the option that chooses a kind of files; `which` says what it does."""
    return click.option("--kind", type=click.Choice(["audio", "images"]), help=which)
