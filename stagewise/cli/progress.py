"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from stagewise.show import bytes_text, disk_text, seconds_text

QUIET_SECONDS = 60.0  # between lines where there is no terminal

Report = Callable[..., None]


@contextmanager
def terminal_report() -> Iterator[Report]:
    """Return what `runner` reports to, for as long as the body runs."""
    console = Console(file=cast(TextIO, _Unheard(sys.stderr)))
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[facts]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield _Bars(progress)


class _Unheard:
    """A stream that may go away while a run goes on: a terminal is closed, a pipe's reader ends, a log's disk fills."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


class _Lines:
    """A line for what is finished, and one a minute for what is not."""

    def __init__(self, console: Console) -> None:
        self.console, self.last = console, time.monotonic()

    def __call__(self, kind: str, **facts: Any) -> None:
        line = finished_line(kind, facts)
        if line is None and time.monotonic() - self.last >= QUIET_SECONDS:
            found = under_way(kind, facts)
            line = None if found is None else f"{found[0]}: {found[1]:,} of {found[2]:,} {found[3]}".rstrip()
        elif kind == "epoch" and time.monotonic() - self.last < QUIET_SECONDS and facts["epoch"]:
            line = None
        if line is not None:
            self.last = time.monotonic()
            self.console.print(line, highlight=False, soft_wrap=True)


class _Bars:
    """One bar for what is under way."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.task, self.name = progress, TaskID(0), ""
        self.begun, self.rows = time.monotonic(), 0

    def __call__(self, kind: str, **facts: Any) -> None:
        found = under_way(kind, facts)
        if found is not None:
            self._advance(*found, rows=facts.get("rows", 0))
        line = finished_line(kind, facts)
        if line is not None:
            self.progress.console.print(line, highlight=False, soft_wrap=True)

    def _advance(self, name: str, done: int, of: int, words: str, rows: int) -> None:
        if name != self.name:
            if self.name:
                self.progress.remove_task(self.task)
            self.task, self.name = self.progress.add_task(name, total=of, completed=done, facts=""), name
            self.begun, self.rows = time.monotonic(), 0
        self.rows += rows
        seconds = time.monotonic() - self.begun
        speed = f" · {self.rows / seconds:,.0f} rows/s" if rows and seconds > 1 and name.endswith("train") else ""
        self.progress.update(self.task, completed=done, total=of, facts=words + speed)


def under_way(kind: str, facts: dict[str, Any]) -> tuple[str, int, int, str] | None:
    """Return name, done, of, and words for something under way."""
    if kind == "step":
        done = (facts["epoch"] - 1) * facts["steps"] + facts["step"]
        words = f"epoch {facts['epoch']} of {facts['epochs']} at most · loss {facts['loss']:.3f}"
        if facts["peak_bytes"]:
            words += f" · {bytes_text(facts['peak_bytes'])}"
        return f"{facts['stage']} › train", done, facts["epochs"] * facts["steps"], words
    if kind == "encode":
        return f"{facts['stage']} › encode", facts["rows"], facts["of"], "rows"
    if kind == "probe":
        return f"{facts['probe']} on {facts['stage']} › read", facts["items"], facts["of"], "items"
    if kind == "fit":
        return f"{facts['probe']} on {facts['stage']} › fit", facts["epoch"], facts["of"], "epochs"
    if kind == "verify":
        return f"{facts['stage']} › verify", facts["bytes"], facts["of"], "bytes"
    if kind == "compare":
        return f"{facts['stage']} › compare with the data", facts["items"], facts["of"], "items"
    return None


def finished_line(kind: str, facts: dict[str, Any]) -> str | None:
    """Return the line for something that is worth one, else None."""
    if kind == "note":
        return str(facts["text"])
    if kind == "epoch":
        if "validation_loss" not in facts:
            return None
        words = f"{facts['stage']} › epoch {facts['epoch']}: validation loss {facts['validation_loss']:.3f}"
        if "validation_picked" in facts:
            words += f", positive picked {facts['validation_picked']:.1%}"
        if "validation_information" in facts:
            words += f", information ≥ {facts['validation_information']:.2f} nats"
        return f"{words} ({seconds_text(facts['seconds'])})"
    if kind == "done":
        train, store = facts["record"]["train"], facts["record"]["store"]
        kept = f"{disk_text(store['bytes'])} of {store['dtype']}" if store["state"] == "written" else "recomputed"
        why = "converged" if train["converged"] else "last epoch"
        return f"{facts['stage']} › done after {train['epochs']} epochs ({why}); store: {kept}"
    if kind == "probed":
        low, high = facts["interval"]
        return f"{facts['name']} on {facts['stage']}: {facts['value']:.3f} ({low:.3f} – {high:.3f})"
    return None
