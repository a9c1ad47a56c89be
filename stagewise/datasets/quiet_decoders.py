"""What decoders print themselves is kept from the terminal: it names no file, and what it is about is found by us."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock

_lock = Lock()
_within = 0
_kept = -1  # the standard error stream, while decoders work


@contextmanager
def quietly(needed: bool = True) -> Iterator[None]:
    """Let no library print to file descriptor 2 while the body runs, in any number of threads.

    The command's own messages go another way: see `own_stream`.

    Args:
        needed: whether to do so, of those that print.
    """
    global _within, _kept
    if not needed:
        yield
        return
    with _lock:
        if _within == 0:
            _begin()
        _within += 1
    try:
        yield
    finally:
        with _lock:
            _within -= 1
            if _within == 0:
                _end()


def own_stream() -> None:
    """Give Python's standard error stream a file descriptor of its own, so that what it says is not quietly."""
    with suppress(OSError, ValueError, AttributeError):
        if sys.stderr.fileno() == 2:
            sys.stderr.flush()
            sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")


def _begin() -> None:
    global _kept
    with suppress(OSError):  # no descriptor is left: then they may print
        _kept = os.dup(2)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        os.close(null)


def _end() -> None:
    global _kept
    if _kept >= 0:
        os.dup2(_kept, 2)
        os.close(_kept)
        _kept = -1


def _forget() -> None:
    """In a forked child, in which no other thread goes on."""
    global _lock, _within
    _lock, _within = Lock(), 0
    _end()


os.register_at_fork(after_in_child=_forget)
