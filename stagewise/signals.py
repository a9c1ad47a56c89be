"""Signals: the first one asks a run to stop at the next safe point, a second one ends it at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from stagewise.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Whether somebody asked to stop.

    Attributes:
        signal: the number of the signal that asked, or None.
    """

    signal: int | None = None

    def check(self, saved: str | None) -> None:
        """Raise Interrupted if somebody asked; call it where everything is saved.

        Args:
            saved: what the user should know about what is saved; None if nothing is.
        """
        if self.signal is not None:
            name = signal.Signals(self.signal).name
            kept, end = ("nothing is kept.", "start over") if saved is None else (saved, "go on")
            raise Interrupted(f"stopped by {name}: {kept} Type the same command again to {end}.", self.signal)


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Catch SIGINT, SIGTERM and SIGHUP while the body runs (outside the main thread: catch nothing)."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, _: FrameType | None) -> None:
        if stop.signal is not None:
            name = signal.Signals(number).name
            raise Interrupted(
                f"stopped at once by a second {name}; everything committed before is intact. "
                "Type the same command again.",
                number,
            )
        stop.signal = number

    # nohup has SIGHUP ignored, and it shall stay so.
    caught = [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handle) for number in caught}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
