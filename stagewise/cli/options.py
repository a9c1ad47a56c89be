"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stagewise.cli import completion

JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
RUN_ARGUMENT = click.argument("run", required=False, type=click.Path(path_type=Path), shell_complete=completion.runs)


def kind(which: str) -> Callable[[Any], Any]:
    """Return the option that chooses a kind of files; `which` says what it does."""
    return click.option("--kind", type=click.Choice(["audio", "images"]), help=which)
