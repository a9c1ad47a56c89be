"""Progress on stderr: a bar on a terminal, a line now and then elsewhere, both with the same facts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Lock, Timer
from typing import TYPE_CHECKING, Any, TextIO, cast

import psutil
from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from stagewise.runs.verdict import NOTICEABLE, guessing
from stagewise.text import about_text, bytes_text, counted, printable, seconds_text

if TYPE_CHECKING:
    from stagewise.planning.duration import Duration

# How long the rest of a run will take: as the plan reckons it, at the pace that is seen.


class Outlook:
    """What comes after the stage that is under way.

    Args:
        in_sync: whether all stages are trained together, and then encoded one after another.
    """

    def __init__(self, in_sync: bool) -> None:
        self.in_sync, self.scale = in_sync, 1.0  # of what is estimated, to what is seen
        self.estimated: Mapping[str, Duration] = {}
        self.probes = 0.0  # as estimated, in seconds

    def later(self, kind: str, stage: str, each: float) -> float:
        """Return about how many seconds the other stages and the probes take that are still to be made.

        Args:
            kind: "step" or "encode": what is under way.
            stage: of which.
            each: seconds of a step, as they are seen.
        """
        names = list(self.estimated)
        if stage not in names:
            return 0.0
        above = [self.estimated[name] for name in names[names.index(stage) + 1 :]]
        encode = sum(time.encode for time in above)
        if kind == "step":
            members = list(self.estimated.values()) if self.in_sync else [self.estimated[stage]]
            self.scale = each / sum(time.step for time in members)
            encode += sum(time.encode for time in members)
        return self.scale * (encode + self.probes + (0.0 if self.in_sync else sum(time.train for time in above)))


QUIET_SECONDS = 25.0  # between lines where there is no terminal
SURE_SECONDS = 1.0  # before a speed is told
SILENT_SECONDS = 1.0  # before it is said what takes so long

Report = Callable[..., None]


@contextmanager
def terminal_report(
    pipeline: str = "", stages: Sequence[str] = (), group: str = "", silence: str = ""
) -> Iterator[Report]:
    """Return what `runner` reports to, for as long as the body runs.

    Args:
        pipeline: its name, for what is under way to begin with.
        stages: names of all its stages, to say which of them is under way.
        group: name of all of them, if they are trained in sync.
        silence: what to say if there was nothing to say for a second.
    """
    console = Console(file=cast(TextIO, _Unheard(sys.stderr)), markup=False, emoji=False)
    pace = _Pace(pipeline, stages, group)
    if not console.is_terminal:
        lines = _Lines(console, pace)
        with _breaking(silence, lines.wait):
            yield lines
        return
    share = TaskProgressColumn("{task.percentage:>3.0f} % done", text_format_no_percentage="")
    columns = BarColumn(bar_width=20), share, TimeElapsedColumn(), TextColumn("{task.fields[rest]}", markup=False)
    with _Live(*columns, console=console, transient=True) as progress:
        bars = _Bars(progress, pace)
        with _breaking(silence, bars.wait):
            yield bars


@contextmanager
def _breaking(silence: str, wait: Callable[[str], None]) -> Iterator[None]:
    timer = Timer(SILENT_SECONDS, wait, [silence])
    timer.daemon = True
    if silence:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


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


class _Pace:
    """What is under way in words: how far it is, how fast it goes, and when it will be done."""

    def __init__(self, pipeline: str, stages: Sequence[str], group: str = "") -> None:
        self.pipeline, self.group = f"{pipeline} › " if pipeline else "", group
        self.stages = {name: f"{name} ({number} of {len(stages)})" for number, name in enumerate(stages, 1)}
        self.name, self.begun, self.first, self.rows = "", 0.0, 0, 0
        self.outlook = Outlook(bool(group))

    def __call__(self, kind: str, facts: dict[str, Any]) -> tuple[str, str, int, int, str] | None:
        """Return name, facts, done, of, and how long all stages will take, for something under way."""
        if kind == "estimated":
            self.outlook.estimated, self.outlook.probes = facts["stages"], facts["probes"]
        stage = self.stages.get(facts.get("stage", ""))
        if kind == "step" and self.group:  # whose steps are told by the topmost, with its loss
            stage, facts = self.group, facts | {"loss_of": f" of {facts['stage']}"}
        found = under_way(kind, facts | {"stage": stage} if stage else facts)
        if found is None:
            return None
        name, done, of, words = found
        if name != self.name:
            self.name, self.begun, self.first, self.rows = name, time.monotonic(), done, 0
        elif kind == "step":
            self.rows += facts["rows"]
        seconds, new = time.monotonic() - self.begun, done - self.first
        speed = left = rest = ""
        if seconds >= SURE_SECONDS and new > 0:
            rate, unit = (self.rows, "rows") if kind == "step" else (new, words)
            speed = f" · {_amount(rate / seconds, unit)}/s"
            if (still := seconds / new * (of - done)) >= 1:
                left = f" · {seconds_text(still)} left"
            later = self.outlook.later(kind, facts["stage"], seconds / new) if kind in ("step", "encode") else 0.0
            if later and still + later >= 60:
                rest = f"all{' stages' * (not self.outlook.probes)}: {about_text(still + later)} left"
        if kind == "step":
            memory = f" · {bytes_text(facts['peak_bytes'])}" if facts["peak_bytes"] else ""
        else:
            words = f"{_amount(done, words).removesuffix(f' {words}')} of {_amount(of, words)}"
            memory = f" · {bytes_text(psutil.Process().memory_info().rss)} resident"
        return printable(f"{self.pipeline}{name}"), printable(f"{words}{speed}{memory}{left}"), done, of, rest


def _amount(count: float, unit: str) -> str:
    return bytes_text(count) if unit == "bytes" else f"{count:,.0f} {unit}"


class _Lines:
    """A line for what is finished, and one every half minute for what is not."""

    def __init__(self, console: Console, pace: _Pace) -> None:
        self.console, self.pace, self.last, self.silent = console, pace, time.monotonic(), True

    def __call__(self, kind: str, **facts: Any) -> None:
        line, found = finished_line(kind, facts), self.pace(kind, facts)
        quiet = time.monotonic() - self.last < QUIET_SECONDS
        if found is not None:
            line = None if quiet else " · ".join(filter(None, [f"{found[0]}: {found[1]}", found[4]]))
        elif kind == "epoch" and quiet and facts["epoch"]:
            line = None
        if line is not None:
            self.last, self.silent = time.monotonic(), False
            self.console.print(printable(line), highlight=False, soft_wrap=True)

    def wait(self, words: str) -> None:
        """Say what is under way, if nothing was said yet."""
        if self.silent:
            self.console.print(words, highlight=False)


class _Live(Progress):
    """What is under way above its bar, so that no width of terminal cuts it off."""

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            yield Text(task.description)
            yield Text(task.fields["facts"])
        yield self.make_tasks_table(self.tasks)


class _Bars:
    """One bar for what is under way."""

    def __init__(self, progress: Progress, pace: _Pace) -> None:
        self.progress, self.pace, self.task, self.name = progress, pace, TaskID(0), ""
        self.silent, self.lock = True, Lock()

    def __call__(self, kind: str, **facts: Any) -> None:
        found, line = self.pace(kind, facts), finished_line(kind, facts)
        with self.lock:
            self.silent &= found is None and line is None
            if found is not None:
                self._advance(*found)
        if line is not None:
            self.progress.console.print(printable(line), highlight=False, soft_wrap=True)

    def wait(self, words: str) -> None:
        """Show what is under way, if nothing was shown yet."""
        with self.lock:
            if self.silent:
                self._advance(words, "", 0, None)

    def _advance(self, name: str, words: str, done: int, of: int | None, rest: str = "") -> None:
        if name != self.name:
            if self.name:
                self.progress.remove_task(self.task)
            self.task, self.name = self.progress.add_task(name, total=of, completed=done, facts="", rest=""), name
        self.progress.update(self.task, completed=done, total=of, facts=words, rest=rest)


def under_way(kind: str, facts: dict[str, Any]) -> tuple[str, int, int, str] | None:
    """Return name, done, of, and words for something under way: its unit, or for a training what it learns."""
    if kind == "step":
        done = (facts["epoch"] - 1) * facts["steps"] + facts["step"]
        words = f"epoch {facts['epoch']} of {facts['epochs']} at most"
        if facts["loss"] is not None:  # a stage that is updated now and then was not yet, in this epoch
            words += f" · loss{facts.get('loss_of', '')} {facts['loss']:.3f}"
        return f"{facts['stage']} › train", done, facts["epochs"] * facts["steps"], words
    if kind == "encode":
        return f"{facts['stage']} › encode", facts["rows"], facts["of"], "rows"
    if kind == "probe":
        name = f"probe {facts['probe']} on {facts['stage']}{_random(facts)} › read its rows"
        return name, facts["items"], facts["of"], "items"
    if kind == "fit":
        name = f"probe {facts['probe']} on {facts['stage']}{_random(facts)} › fit"
        return name, facts["epoch"], facts["of"], "epochs"
    if kind == "verify":
        return f"{facts['stage']} › verify", facts["bytes"], facts["of"], "bytes"
    if kind == "look":
        return f"look at {facts['what']}", facts["files"], facts["of"], "files"
    if kind == "align":
        return "align", facts["seconds"], facts["of"], "seconds of speech"
    if kind == "compare":
        return f"{facts['stage']} › compare with the data", facts["items"], facts["of"], "items"
    return None


def _random(facts: dict[str, Any]) -> str:
    return ", before training" if facts.get("random") else ""


def finished_line(kind: str, facts: dict[str, Any]) -> str | None:
    """Return the line for something that is worth one, else None."""
    if kind == "note":
        return str(facts["text"])
    if kind == "estimated":
        seconds = facts["probes"] + sum(time.train + time.encode for time in facts["stages"].values())
        stages = counted(len(facts["stages"]), "stage") + " and probes" * bool(facts["probes"])
        return f"{stages} to make: {about_text(seconds)} at most, roughly" if seconds >= 60 else None
    if kind == "epoch":
        if "validation_loss" not in facts:
            return None
        words = f"{facts['stage']} › epoch {facts['epoch']}: validation loss {facts['validation_loss']:.3f}"
        if "validation_picked" in facts:
            words += f", true row picked among negatives {facts['validation_picked']:.1%}"
        if facts.get("validation_information", 0.0) >= NOTICEABLE:
            words += f", {facts['validation_information']:.2f} nats below guessing"
        return f"{words} ({seconds_text(facts['seconds'])})"
    if kind == "done":
        train, store = facts["record"]["train"], facts["record"]["store"]
        kept = f"{bytes_text(store['bytes'])} of {store['dtype']}" if store["state"] == "written" else "recomputed"
        why = "converged" if train["converged"] else "last epoch" if train["epochs"] else "nothing was trained"
        which = "training" if train["initial_loss"] is None else "validation"
        loss = "" if train["validation_loss"] is None else f", {which} loss {train['validation_loss']:.3f}"
        if (chance := guessing(train)) is not None:
            loss += f" (of guessing: {chance:.3f})"
        return f"{facts['stage']} › done after {counted(train['epochs'], 'epoch')} ({why}){loss}; store: {kept}"
    if kind == "probed":
        low, high = facts["interval"]
        where = f"{facts['name']} on {facts['stage']}{_random(facts)}"
        return f"{where}: {facts['value']:.3f} ({low:.3f} – {high:.3f})"
    return None
