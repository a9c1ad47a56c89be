"""What a run reports as curves for TensorBoard; a listener that changes nothing of the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagewise.errors import ConfigError

if TYPE_CHECKING:
    from stagewise.cli.event_file import EventFile

SECONDS = 1.0  # at least, between two points within an epoch
NO_CURVES = ("stage", "epoch", "epochs", "steps", "seconds")

Report = Callable[..., None]


@contextmanager
def with_curves(report: Report, folder: Path | None, stages: Sequence[str], group: str = "") -> Iterator[Report]:
    """Return a report that also writes the curves of a run, for as long as the body runs; without a folder, `report`.

    Args:
        report: told everything, as before.
        folder: where each stage and each probe gets a folder of its own, which TensorBoard calls a run.
        stages: names of all stages of the pipeline, lowest first.
        group: name of all of them, if they are trained in sync: their pace and peak are written once, under it.

    Raises:
        ConfigError: tensorboard is missing, or `folder` cannot be written.
    """
    if folder is None:
        yield report
        return
    try:
        from stagewise.cli.event_file import EventFile
    except ImportError:
        raise ConfigError("--tensorboard needs an extra: type `pip install 'stagewise[tensorboard]'`.") from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--tensorboard {folder} is no folder to write to ({error.strerror}): name another."
        ) from None
    curves = _Curves(lambda name, step: EventFile(folder / name, step), stages, group, report)
    try:
        yield curves
    finally:
        curves.close()


class _Curves:
    """Writes a curve per stage and number over the steps of its training, and one per probe over the stages."""

    def __init__(
        self, writer: Callable[[str, int], EventFile], stages: Sequence[str], group: str, report: Report
    ) -> None:
        self.writer, self.group, self.report = writer, group, report
        self.places = {name: number for number, name in enumerate(stages, 1)}
        self.writers: dict[str, EventFile] = {}
        self.stepped, self.pace = "", dict[str, float | None]()  # who made the latest steps, and how
        self.rows, self.since, self.broken = 0, time.monotonic(), False

    def __call__(self, kind: str, **facts: Any) -> None:
        self.report(kind, **facts)
        if self.broken:
            return
        try:
            self._write(kind, facts)
        except OSError as error:  # a full disk there must not end a training that has room
            self.broken = True
            self.report("note", text=f"TensorBoard gets no more points: {error.strerror or error}.")

    def close(self) -> None:
        for writer in self.writers.values():
            with suppress(OSError):
                writer.close()

    def _write(self, kind: str, facts: dict[str, Any]) -> None:
        if kind == "step":
            self._step(facts)
            return
        self.rows, self.since = 0, time.monotonic()  # what is no step is no time of training
        if kind == "epoch":
            numbers = {name: value for name, value in facts.items() if name not in NO_CURVES}
            self._add(facts["stage"], facts["steps"], numbers)
            if facts["stage"] == self.stepped:
                self._add(self.group or self.stepped, facts["steps"], self.pace)
        elif kind == "probed":
            name = f"probe-{facts['name']}{'-random' if facts['random'] else ''}"
            self._add(name, self.places[facts["stage"]], {"accuracy": facts["value"]})

    def _step(self, facts: dict[str, Any]) -> None:
        self.rows += facts["rows"]
        seconds, last = time.monotonic() - self.since, facts["step"] == facts["steps"]
        if seconds < SECONDS and not last:
            return
        self.stepped = facts["stage"]
        self.pace = {"rows_per_second": self.rows / seconds, "peak_bytes": facts["peak_bytes"] or None}
        self.rows, self.since = 0, time.monotonic()
        if not last:  # else the epoch, which comes next, has this step's point
            step = (facts["epoch"] - 1) * facts["steps"] + facts["step"]
            self._add(self.stepped, step, {"loss": facts["loss"]})
            self._add(self.group or self.stepped, step, self.pace)

    def _add(self, name: str, step: int, numbers: dict[str, float | None]) -> None:
        """Add a point to curves; the first one hides what an earlier process wrote of this step and later ones."""
        if name not in self.writers:
            self.writers[name] = self.writer(name, step)
        self.writers[name].add(step, {number: value for number, value in numbers.items() if value is not None})
