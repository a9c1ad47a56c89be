"""The way of every line to a terminal: what names and messages hold, it is sent no control characters."""

from __future__ import annotations

import click

from stagewise.show import printable


def echo(text: object, err: bool = False) -> None:
    """Print a result, or with `err` a message, which may have several lines."""
    click.echo(printable(text, keep="\n\t"), err=err)
