"""Peak memory of training each stage, beside the same network trained end to end (Löwe et al. 2019, Table 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from stagewise.reporting.draw import INK, colour, draw, label
from stagewise.reporting.page import picture
from stagewise.reporting.view import View
from stagewise.reporting.words import short
from stagewise.show import bytes_text

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
FAR = 2.0  # a limit further out than this many times the longest bar would flatten the bars
PREDICTED, MEASURED = colour(0), colour(1)
KINDS = (("predicted", PREDICTED), ("measured", MEASURED))


def memory_bars(views: Sequence[View]) -> list[str]:
    """Return one picture per run."""
    return [_picture(view, f"memory{number}") for number, view in enumerate(views)]


def _picture(view: View, key: str) -> str:
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
        for kind, shade in KINDS if any(measured for _, _, measured in rows) else KINDS[:1]:
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
