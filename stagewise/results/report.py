"""The report of one or several runs: what they are, what they cost, how good they are, as one page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from stagewise import durable
from stagewise.errors import ConfigError
from stagewise.results import page, tables
from stagewise.results.figures import confusions, error_per_depth, loss_curves, memory_bars
from stagewise.results.page import View, read_views
from stagewise.runs.folder import RunFolder


def write_report(runs: Sequence[RunFolder], file: Path, report: Callable[..., None], exciting: bool = False) -> None:
    """Write the report of runs to an HTML file that needs no other file and no network; same runs, same bytes.

    Args:
        runs: as far as they are finished.
        file: where to.
        report: told how far it is.
        exciting: whether to show what excites some neurons, which takes a pass over the test items per stage.

    Raises:
        ConfigError: matplotlib is missing, or `file` is a folder, or lies below a file.
        DataError: with `exciting`, the data is not there or has changed.
        IntegrityError: a record of a run is damaged.
    """
    if file.is_dir():
        raise ConfigError(f"{file} is a folder: name a file, such as `--out {file / 'report.html'}`.")
    if blocked := next((place for place in file.parents if place.is_file()), None):
        raise ConfigError(f"{file} cannot be written: {blocked} is a file, no folder. Name another place with --out.")
    views = read_views(runs)
    title = views[0].name if len(views) == 1 else f"{len(views)} runs"
    text = page.document(f"Report of {title}", _parts(views, report, exciting))
    with durable.disk_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    durable.write_bytes(file, text.encode())


def _parts(views: Sequence[View], report: Callable[..., None], exciting: bool) -> Iterator[str]:
    yield page.heading(2, "Summary")
    yield tables.summary(views)
    yield page.heading(2, "Stages")
    for view in views:
        yield tables.stages(view)
        yield from tables.warnings(view)
    yield page.note(
        "Loss: on the validation items (of training, where none were held out), before and after training. "
        "Epochs: trained/allowed; a stage that took all "
        "of them may not have converged. Memory: peak of a training step, and its share of what the same network "
        "would take end to end (predicted)."
    )
    yield page.heading(2, "Loss")
    yield page.note(
        "Losses of different stages are not comparable: each has its own input, so each has its own axis, which is the "
        "same for that stage of all runs."
    )
    yield page.pictures(loss_curves(views)) or page.note("No stage is finished yet.")
    yield page.heading(2, "Probes")
    yield page.pictures(error_per_depth(views))
    yield from map(tables.probes, views)
    for view in views:
        yield from confusions(view)
    yield page.heading(2, "Memory")
    yield page.pictures(memory_bars(views))
    if exciting:
        from stagewise.results.neurons import neurons

        yield page.heading(2, "What excites a neuron")
        yield page.note(
            "The rows of test items with the highest activation of a few channels, at most one of each item: "
            "the item, where in it, and the activation."
        )
        for view in views:
            yield page.heading(3, view.name)
            yield from neurons(view.folder, report)
    yield page.heading(2, "Plan")
    yield from map(tables.decisions, views)
    yield page.note(
        "Rows: of the whole data set; each is what the stage makes of a stretch of sound or a patch of an image. "
        "Of float32: the size, as a share of the same rows as float32. Pieces: in which a training step is computed."
    )
    yield page.heading(2, "Environment")
    yield tables.environments(views)
