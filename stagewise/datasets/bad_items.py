"""What happens to files that cannot be used: all of them are found before training starts, and listed or left out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Literal, TypeVar

from stagewise.datasets.base import BadItem
from stagewise.errors import ConfigError, DataError
from stagewise.text import counted

MAX_SKIPPED = 0.01  # what bad_items = "skip" stands for: more bad items than this are an error even then
SHOWN = 10
# What to do about a file that is damaged inside.
AGAIN = "Replace the file or take it away, then try again: data.bad_items leaves out what headers and ends give away."
CHUNK = 64  # files that a thread takes at a time

Policy = Literal["error", "skip"] | float | int  # a share of the files, or how many
P = TypeVar("P", str, Path)
T = TypeVar("T")

_known: dict[tuple[object, object], Any] | None = None  # what was found of a file, while that is to be remembered
_told: Callable[..., None] | None = None  # who is told how many files were looked at


def check_policy(policy: Policy) -> None:
    """Refuse a `bad_items` that is neither of the two words nor a share or a number of files.

    Raises:
        ConfigError: it is another.
    """
    share, count = type(policy) is float and 0 < policy < 1, type(policy) is int and policy > 0
    if policy not in ("error", "skip") and not share and not count:
        raise ConfigError(
            f'data.bad_items is {policy!r}: set it to "error" or "skip", to the share of files to be left out at most, '
            "such as 0.05, or to their number, such as 10."
        )


def _allowed(policy: Policy, files: int) -> tuple[float, str]:
    """Return how many bad files are left out, and that in words."""
    if isinstance(policy, str):
        return (MAX_SKIPPED * files, f"{MAX_SKIPPED:.0%}") if policy == "skip" else (0, "")
    return (policy, f"{policy:,}") if isinstance(policy, int) else (policy * files, f"{100 * policy:g}%")


def probe_all(probe: Callable[[P], T], paths: Sequence[P], tell: Callable[[int], None] = lambda _: None) -> Iterator[T]:
    """Probe files in threads, and yield what was found in order.

    Decoding releases the interpreter's lock, and network disks answer many questions at once.

    Args:
        probe: looks at a file.
        paths: of the files.
        tell: told now and then how many are done.
    """

    def look(path: P) -> T:
        known = {} if _known is None else _known
        if (probe, path) not in known:
            known[probe, path] = probe(path)
        found: T = known[probe, path]
        return found

    with ThreadPool(min(8, os.cpu_count() or 1)) as pool:
        for done, found in enumerate(pool.imap(look, paths, chunksize=CHUNK), 1):
            if done % CHUNK == 0 or done == len(paths):
                tell(done)
            yield found


@contextmanager
def remembering() -> Iterator[None]:
    """Look at every file only once while the body runs, however often it is probed."""
    global _known
    _known = {}
    try:
        yield
    finally:
        _known = None


@contextmanager
def telling(report: Callable[..., None]) -> Iterator[None]:
    """Tell of progress while data sets look at their files in the body."""
    global _told
    before, _told = _told, report
    try:
        yield
    finally:
        _told = before


def looked_at(kind: str, of: int) -> Callable[[int], None]:
    """Return what `probe_all` tells how many files of a kind are done, if anybody wants to know."""

    def tell(done: int) -> None:
        if _told is not None:
            _told("look", what=kind, files=done, of=of)

    return tell


def judge(bad: Sequence[BadItem], files: int, kind: str, policy: Policy) -> None:
    """Refuse bad files, unless they may be skipped and are few.

    Args:
        bad: the bad files.
        files: how many files there are, with the bad ones.
        kind: what they are, "audio" or "image".
        policy: the pipeline's `bad_items`.

    Raises:
        DataError: lists the first of them, and says what to do.
    """
    most, words = _allowed(policy, files)
    if len(bad) <= most:
        return
    advice = (
        'Repair them or take them away, or set data.bad_items = "skip" to leave them out.'
        if policy == "error"
        else f"That is more than the {words} that data.bad_items = {json.dumps(policy)} leaves out: repair them, or "
        f"set data.bad_items = {len(bad)} to leave out so many."
    )
    refuse(bad, files, f"{kind} file", advice)


def refuse(bad: Sequence[BadItem], files: int, kind: str, advice: str) -> None:
    """Refuse bad files.

    Args:
        bad: the bad files.
        files: how many files there are, with the bad ones.
        kind: what one is called.
        advice: what to do.

    Raises:
        DataError: there are some; lists the first of them.
    """
    if not bad:
        return
    lines = [f"  {item.path}: {item.reason}" for item in bad[:SHOWN]]
    if len(bad) > SHOWN:
        lines.append(f"  … and {len(bad) - SHOWN:,} more")
    raise DataError("\n".join([f"{len(bad):,} of {counted(files, kind)} cannot be used:", *lines, advice]))
