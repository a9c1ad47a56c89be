"""Training and validation loss of every stage over its epochs, a picture each (Löwe et al. 2019, Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stagewise.reporting.draw import colour, draw, label, marker
from stagewise.reporting.page import picture
from stagewise.reporting.view import View
from stagewise.runs.verdict import of_guessing
from stagewise.show import printable

KINDS = (("validation_loss", "-", "validation"), ("loss", "--", "training"))
MARGIN = 0.05  # of the span, above and below


def loss_curves(views: Sequence[View]) -> list[str]:
    """Return one picture per finished stage of a run; those of the same stage of several runs have the same axis."""
    limits = {name: _limits(name, views) for view in views for name in view.curves}
    return [
        _picture(view, name, f"loss{number}-{stage}", limits[name])
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


def _picture(view: View, name: str, key: str, limits: tuple[float, float]) -> str:
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
