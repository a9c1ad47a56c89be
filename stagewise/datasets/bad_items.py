"""What happens to files that cannot be used: all of them are found before training starts, and listed or left out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.pool import ThreadPool
from typing import Literal, TypeVar

from stagewise.datasets.base import BadItem
from stagewise.errors import ConfigError, DataError

MAX_SKIPPED = 0.01  # more bad items than this are an error even with bad_items = "skip"
SHOWN = 10

Policy = Literal["error", "skip"]
T = TypeVar("T")


def check_policy(policy: str) -> None:
    """Refuse a `bad_items` that is neither of the two words.

    Raises:
        ConfigError: it is another.
    """
    if policy not in ("error", "skip"):
        raise ConfigError(f'data.bad_items is {policy!r}: set it to "error" or "skip".')


def probe_all(probe: Callable[[str], T], paths: Sequence[str]) -> Iterator[T]:
    """Probe files in threads, and yield what was found in order.

    Decoding releases the interpreter's lock, and network disks answer many questions at once.
    """
    with ThreadPool(min(8, os.cpu_count() or 1)) as pool:
        yield from pool.imap(probe, paths, chunksize=64)


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
    if not bad or (policy == "skip" and len(bad) <= MAX_SKIPPED * files):
        return
    lines = [f"  {item.path}: {item.reason}" for item in bad[:SHOWN]]
    if len(bad) > SHOWN:
        lines.append(f"  … and {len(bad) - SHOWN:,} more")
    remedy = (
        'Repair them or take them away, or set data.bad_items = "skip" to leave them out.'
        if policy == "error"
        else f'That is more than the {MAX_SKIPPED:.0%} that data.bad_items = "skip" leaves out: repair them.'
    )
    head = f"{len(bad):,} of {files:,} {kind} files cannot be used:"
    raise DataError("\n".join([head, *lines, remedy]))
