"""Pictures of a report: error per depth, loss curves, memory, confusion."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from stagewise.results import page
from stagewise.results.page import INK, View, colour, draw, label, marker, picture, short
from stagewise.runs.records import read_predictions, read_probe
from stagewise.runs.verdict import of_guessing
from stagewise.text import bytes_text, printable

# How wrong a probe is on each stage, the deeper the better (Löwe et al. 2019, Figure 4).

# Löwe et al. 2019, Figure 4: speaker error % after modules 1 to 6, read off the plot (5 % of each, more or less).
PUBLISHED = {
    "GIM": (74, 9.9, 2.0, 1.3, 0.93, 0.63),
    "CPC": (66, 11, 3.1, 1.5, 0.63, 0.44),
    "supervised": (79, 55, 15.8, 7.2, 4.8, 1.15),
    "greedy supervised": (53, 3.9, 2.4, 1.7, 1.8, 1.3),
}
APART = 0.05  # between the intervals of two runs on the same stage, in stages
WIDE, NARROW = (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8)  # ticks of each power of ten, where many or few are in view
Point = tuple[int, float, float, float]  # depth, error %, the ends of its interval


def error_per_depth(views: Sequence[View]) -> list[str]:
    """Return one picture per probe that was fitted on several stages of a run."""
    names = dict.fromkeys(probe["name"] for view in views for probe in view.facts["probes"])
    return [_picture(name, views) for name in names if any(len(_probes(view, name)) > 1 for view in views)]


def points(view: View, probe: str) -> list[Point]:
    """Return a run's errors in percent, lowest stage first, with their intervals.

    An error of 0 has no place on a log scale: it is put at half of one test example.
    """
    found = []
    for result in _probes(view, probe):
        low, high = result["interval"]
        error, least, most = (_error(result, value) for value in (result["value"], high, low))
        found.append((_depth(view, result), error, min(least, error), max(most, error)))
    return sorted(found)


def _random(view: View, probe: str) -> list[tuple[int, float]]:
    """Return depths and errors in percent of a run's stages before training."""
    known = (result for result in _probes(view, probe) if result["random"])
    return sorted((_depth(view, result), _error(result, result["random"]["value"])) for result in known)


def _depth(view: View, result: dict[str, Any]) -> int:
    return next(int(stage["index"]) for stage in view.facts["stages"] if stage["name"] == result["stage"])


def _error(result: dict[str, Any], accuracy: float) -> float:
    return max(50 / float(result.get("test_rows", result["test_items"])), 100 * (1 - accuracy))


def _probes(view: View, name: str) -> list[dict[str, Any]]:
    return [probe for probe in view.facts["probes"] if probe["name"] == name]


def _picture(name: str, views: Sequence[View]) -> str:
    lines = {view.name: points(view, name) for view in views if _probes(view, name)}
    start = {view.name: _random(view, name) for view in views}
    labels = {probe["labels"] for view in views for probe in _probes(view, name)}
    on_librispeech = any(view.data["target"] == "librispeech" for view in views if view.name in lines)
    published = PUBLISHED if labels == {"speaker"} and on_librispeech else {}

    def paint(axes: Axes) -> None:
        for number, (run, found) in enumerate(lines.items()):
            depth, error, low, high = zip(*found, strict=True)
            bars = [[e - a for e, a in zip(error, low, strict=True)], [b - e for e, b in zip(error, high, strict=True)]]
            places = [d + APART * (number - (len(lines) - 1) / 2) for d in depth]
            axes.plot(places, error, f"-{marker(number)}", color=colour(number), label=label(run))
            axes.errorbar(places, error, bars, fmt="none", ecolor=colour(number), capsize=2.5)
            if before := start[run]:
                words = label(f"{run}, before training")
                axes.plot(*zip(*before, strict=True), ":", color=colour(number), linewidth=2, label=words)
        for number, (system, errors) in enumerate(published.items(), len(lines)):
            words = label(f"{system}, published")
            axes.plot(range(1, len(errors) + 1), errors, "--", color=colour(number), linewidth=1.1, label=words)
        axes.set(xlabel="stage", ylabel=f"{name} error, %", yscale="log")
        axes.margins(x=0.06)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        bottom, top = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(10, subs=WIDE if top > 20 * bottom else NARROW))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())

    measured = "; ".join(
        f"{run}: "
        + ", ".join(f"{error:.3g} at stage {depth}" for depth, error, _, _ in found)
        + (", before training: " if start[run] else "")
        + ", ".join(f"{error:.3g} at stage {depth}" for depth, error in start[run])
        for run, found in lines.items()
    )
    caption = f"Error of the probe {name} on each stage, with 95 % intervals, on a log scale."
    if any(
        1 in (probe["value"], (probe["random"] or probe)["value"]) for view in views for probe in _probes(view, name)
    ):
        caption += " No error at all, which has no place on it, is drawn as half of one test item."
    if any(start.values()):
        caption += " Dotted: the same stages before training."
    if published:
        caption += " Dashed: read off the paper's Figure 4, measured by its authors on the whole of their data."
    alt = f"Error of the probe {name} in percent. {measured}."
    return picture(draw(f"error-{name}", alt, 3.4, paint), caption)


# Training and validation loss of every stage over its epochs, a picture each (Löwe et al. 2019, Figure 3).

KINDS = (("validation_loss", "-", "validation"), ("loss", "--", "training"))
MARGIN = 0.05  # of the span, above and below


def loss_curves(views: Sequence[View]) -> list[str]:
    """Return one picture per finished stage of a run; those of the same stage of several runs have the same axis."""
    limits = {name: _limits(name, views) for view in views for name in view.curves}
    return [
        _curves(view, name, f"loss{number}-{stage}", limits[name])
        for number, view in enumerate(views)
        for stage, name in enumerate(view.curves)
    ]


def _limits(name: str, views: Sequence[View]) -> tuple[float, float]:
    values = [
        record[kind] for view in views for record in view.curves.get(name, ()) for kind, _, _ in KINDS if kind in record
    ]
    if not values:
        return 0.0, 1.0
    margin = MARGIN * (max(values) - min(values)) or 0.1
    return min(values) - margin, max(values) + margin


def _curves(view: View, name: str, key: str, limits: tuple[float, float]) -> str:
    curve, facts = view.curves[name], next(stage for stage in view.facts["stages"] if stage["name"] == name)

    def paint(axes: Axes) -> None:
        for number, (kind, line, words) in enumerate(KINDS):
            epochs = [record["epoch"] for record in curve if kind in record]
            losses = [record[kind] for record in curve if kind in record]
            # A line of one point would not be seen: random weights, which are never trained.
            dot = marker(number) if len(epochs) == 1 else ""
            axes.plot(epochs, losses, line, marker=dot, color=colour(number), label=label(words))
        axes.set(title=printable(name), xlabel="epoch", ylabel="loss", ylim=limits)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))

    alt = f"Loss of {name} of {view.name} over its epochs. Validation: {_change(curve)}."
    return picture(
        draw(key, alt, 2.2, paint),
        f"{view.name}: loss of {name}, {view.facts['schedule']} schedule. "
        f"Epoch 0 is before training{of_guessing([facts])}.",
    )


def _change(curve: Sequence[dict[str, Any]]) -> str:
    losses = [record["validation_loss"] for record in curve if "validation_loss" in record]
    if not losses:
        return "not measured"
    return f"{losses[0]:.3f}" if len(losses) == 1 else f"{losses[0]:.3f} to {losses[-1]:.3f}"


# Peak memory of training each stage, beside the same network trained end to end (Löwe et al. 2019, Table 2).

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
FAR = 2.0  # a limit further out than this many times the longest bar would flatten the bars
PREDICTED, MEASURED = colour(0), colour(1)
CATEGORIES = (("predicted", PREDICTED), ("measured", MEASURED))


def memory_bars(views: Sequence[View]) -> list[str]:
    """Return one picture per run."""
    return [_bars(view, f"memory{number}") for number, view in enumerate(views)]


def _bars(view: View, key: str) -> str:
    rows = [
        (stage["name"], stage["memory"]["predicted_peak_bytes"], stage["memory"]["measured_peak_bytes"])
        for stage in view.facts["stages"]
    ]
    rows.append(("end to end", view.facts["end_to_end"]["predicted_peak_bytes"], None))
    limit = view.facts["memory_limit_bytes"]
    longest = max(1, *(max(predicted, measured or 0) for _, predicted, measured in rows))
    power = min(len(UNITS) - 1, int(math.log(longest, 1024)))
    near = limit is not None and limit <= FAR * longest

    def paint(axes: Axes) -> None:
        for kind, shade in CATEGORIES if any(measured for _, _, measured in rows) else CATEGORIES[:1]:
            axes.barh(0, 0, color=shade, label=label(kind))
        for place, (_, predicted, measured) in enumerate(rows):
            bars = [(predicted, PREDICTED)] + ([(measured, MEASURED)] if measured else [])
            for number, (count, shade) in enumerate(bars):
                middle = place + 0.38 * (number - (len(bars) - 1) / 2)
                axes.barh(middle, count / 1024**power, 0.34, color=shade)
                axes.annotate(
                    bytes_text(count), (count / 1024**power, middle), (3, 0), textcoords="offset points",
                    va="center", fontsize=8,
                )  # fmt: skip
        if near:
            axes.axvline(limit / 1024**power, color=INK, linestyle="--", label=label(f"limit, {bytes_text(limit)}"))
        axes.set_yticks(range(len(rows)), [short(name, 14) for name, _, _ in rows])
        axes.invert_yaxis()
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        # Room for the words at the end of the longest bar.
        axes.set(xlabel=UNITS[power], xlim=(0, max(1.3 * longest, 1.05 * limit if near else 0) / 1024**power))

    words = "; ".join(
        f"{name} {bytes_text(predicted)} predicted" + (f", {bytes_text(measured)} measured" if measured else "")
        for name, predicted, measured in rows
    )
    caption = f"{view.name}: peak memory of a training step, beside the same network trained end to end."
    if limit is not None and not near:
        caption += f" The limit of {bytes_text(limit)} lies far to the right."
    svg = draw(key, f"Peak memory of {view.name}. {words}.", 0.75 + 0.46 * len(rows), paint)
    return picture(svg, caption)


# Which classes a probe takes for which: a matrix where there are few, else what is mistaken most often.

FEW = 12  # classes of which a matrix is still read at a glance
MISTAKES = 20
Counts = Mapping[tuple[int, int], int]


def confusions(view: View) -> Iterator[str]:
    """Yield for each probe of a run, on the topmost stage that it was fitted on, what it takes for what."""
    tops: dict[str, dict[str, Any]] = {probe["name"]: probe for probe in view.facts["probes"]}
    for name, probe in tops.items():
        if (folder := probe.get("folder")) is None:
            continue
        path = view.folder.path / "probes" / folder
        result = read_probe(path, name)
        found = None if result is None else read_predictions(path, result)
        if result is not None and found is not None:
            yield _shown(f"{name} on {probe['stage']} of {view.name}", result["class_names"], found.confusion())


def _shown(title: str, names: Sequence[str], counts: Counts) -> str:
    if len(names) <= FEW:
        caption = f"{title}: what the test examples of each class (lines) are said to be (columns)"
        return page.matrix(caption, [short(name, 24) for name in names], counts)
    wrong = sorted((pair for pair in counts if pair[0] != pair[1]), key=lambda pair: (-counts[pair], pair))
    if not wrong:
        return page.note(f"{title}: no test example is taken for one of another class.")
    totals: Counter[int] = Counter()
    for (of, _), count in counts.items():
        totals[of] += count
    rows = [
        (names[of], names[said], f"{counts[of, said]:,}", f"{100 * counts[of, said] / totals[of]:.1f}")
        for of, said in wrong[:MISTAKES]
    ]
    caption = f"{title}: the most frequent mistakes, {len(rows)} of {len(wrong):,} kinds"
    return page.table(caption, ("class", "said to be"), ("test examples", "of its class, %"), rows)
