"""Where a command may write what somebody named with --out."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from stagewise.atomic import read_bytes
from stagewise.errors import ConfigError


def check_place(out: Path, force: bool, holds: Collection[str] = (), mark: str = "", word: str = "") -> None:
    """Refuse a place that is taken, or that cannot be.

    Args:
        out: the file or folder to write.
        force: replace what is there, if it is such a one.
        holds: names in such a folder; none of a file.
        mark: the one of them that tells it from a folder of somebody's own with the same names.
        word: that stands in this file.

    Raises:
        ConfigError: its folder is not there, or something is in its place.
    """
    if not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}: make it, or name another.")
    if not os.path.lexists(out):
        return
    if holds:
        names = {path.name for path in out.iterdir()} if out.is_dir() and not out.is_symlink() else {""}
        ours = not names or (names <= {*holds} and marked(out / mark, word))
    else:
        ours = not out.is_dir()
    if not ours:  # one slip would delete a folder of somebody's own
        raise ConfigError(
            f"--out {out} is there already, and is not what this command writes: name another, or delete it yourself."
        )
    if not force:
        raise ConfigError(f"--out {out} is there already: name another, or type --force to replace it.")


def marked(file: Path, word: str) -> bool:
    """Whether a file holds a word that only our own ones hold; damage elsewhere in it does not matter."""
    try:
        return word.encode() in read_bytes(file)
    except OSError:
        return False
