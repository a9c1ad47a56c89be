"""Where a command may write what somebody named with --out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from stagewise.errors import ConfigError


def check_place(out: Path, force: bool, ours: Callable[[Path], bool] | None = None, python: bool = False) -> None:
    """Refuse a place that is taken, or that cannot be.

    Args:
        out: the file or folder to write.
        force: replace what is there, if it is such a one.
        ours: says whether a folder is one that this command wrote; None if it writes a file.
        python: say what to write in a call, and not what to type.

    Raises:
        ConfigError: its folder is not there, or something is in its place.
    """
    place, again = (f"out, {out}", "give it force=True") if python else (f"--out {out}", "type --force")
    if not out.parent.is_dir():
        raise ConfigError(f"{place}: there is no folder {out.parent}: make it, or name another.")
    if not os.path.lexists(out):
        return
    folder = out.is_dir() and not out.is_symlink()
    fits = not out.is_dir() if ours is None else folder and (not any(out.iterdir()) or ours(out))
    if not fits:  # one slip would delete a folder of somebody's own
        raise ConfigError(
            f"{place} is there already, and is not what this command writes: name another, or delete it yourself."
        )
    if not force:
        raise ConfigError(f"{place} is there already: name another, or {again} to replace it.")
