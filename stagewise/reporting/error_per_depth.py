"""How wrong a probe is on each stage, the deeper the better (Löwe et al. 2019, Figure 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from stagewise.reporting.draw import colour, draw, label, marker
from stagewise.reporting.page import picture
from stagewise.reporting.view import View

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
