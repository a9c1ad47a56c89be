"""The way of every line to a terminal, options that commands share, and what is said of an unforeseen error."""

from __future__ import annotations

import os
import re
import sysconfig
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any
from unicodedata import normalize

import click

from stagewise.cli import completion
from stagewise.errors import ConfigError
from stagewise.registry import DATASETS, MODULES, OBJECTIVES
from stagewise.text import printable

# The way of every line to a terminal: what names and messages hold, it is sent no control characters.


def echo(text: object, err: bool = False) -> None:
    """Print a result, or with `err` a message, which may have several lines."""
    click.echo(printable(text, keep="\n\t"), err=err)


# Arguments and options that several commands share.


class Place(click.Path):
    """A path; an empty one, which a shell makes of a variable that is not set, is not the folder one is in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path, and take all others."""
        if value == "":
            self.fail("is empty: is a variable not set?", param, ctx)
        return super().convert(_as_stored(value), param, ctx)


def _as_stored(value: Any) -> Any:
    """Return the path that is there under a name that looks the same: an umlaut is one character or two."""
    if not isinstance(value, str) or value.isascii() or os.path.lexists(value):
        return value
    path = Path(value)
    folder, same = Path(_as_stored(str(path.parent))), list[Path]()
    with suppress(OSError, ValueError):
        same = [each for each in folder.iterdir() if normalize("NFC", each.name) == normalize("NFC", path.name)]
    return str(same[0] if len(same) == 1 else folder / path.name)


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


# What is said of an error that nothing nearer to it put into words: whose code failed, and what to do.

MEMORY = ("DefaultCPUAllocator: can't allocate memory", "out of memory", "cannot allocate memory")
INTACT = "Everything committed before is intact."


def in_words(error: BaseException) -> str:
    """Say what went wrong: memory, code that is not stagewise's, or a mistake of ours."""
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in MEMORY)):
        first = str(error).partition("\n")[0]
        return (
            f"out of memory{f' ({first})' if first else ''}. {INTACT} Close other programs, or type the same command "
            'with --set pipeline.memory_limit="4 GiB" (steps are computed in pieces that fit) or a smaller '
            "--set defaults.train.batch_size=…"
        )
    frames = traceback.extract_tb(error.__traceback__)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    own = [frame for frame in frames if _is_foreign(frame.filename)]
    if own:
        return (
            f"{own[-1].filename}:{own[-1].lineno}: {own[-1].name} fails: {what}\n"
            f"{INTACT} This is code that the pipeline file names, not stagewise's: correct it, then type the same "
            "command again. STAGEWISE_DEBUG=1 in front of it shows how it came there."
        )
    return (
        f"unforeseen {type(error).__name__} at {frames[-1].filename}:{frames[-1].lineno}: {error}\n"
        f"{INTACT} Type the command again with STAGEWISE_DEBUG=1 in front of it to "
        "see where this comes from, and please report it."
    )


def _is_foreign(filename: str) -> bool:
    """Say whether a file is neither stagewise's nor Python's, nor a library's that brings no classes for it."""
    path = Path(filename)
    if not path.is_absolute() or not path.is_file() or path.is_relative_to(Path(__file__).parents[1]):
        return False
    folders = {Path(folder) for name, folder in sysconfig.get_paths().items() if "lib" in name}
    within = [folder for folder in folders if path.is_relative_to(folder)]
    if not within:
        return True
    top = path.relative_to(max(within, key=lambda folder: len(folder.parts))).parts[0].removesuffix(".py")
    try:
        given = [
            each for names in (MODULES, OBJECTIVES, DATASETS) for found in names.installed().values() for each in found
        ]
    except ConfigError:  # it is said where a short name is looked up
        return False
    return top in {target.partition(":")[0].partition(".")[0] for target, _ in given}


UNITS = {"hour": " h", "minute": " min", "day": " d"}


def seconds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """Read a time such as "30 min", of a minute or more."""
    if value is None:
        return None
    from stagewise.pipeline.wording import parse_duration  # help needs no pydantic

    try:
        found = parse_duration(re.sub(r"(?<=\d) *(hour|minute|day)s?$", lambda unit: UNITS[unit[1]], value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    if found < 60:
        raise click.BadParameter(f"{value} is too short: a minute is the least.")
    return found
