"""Training and validation loss of every stage over its epochs (Löwe et al. 2019, Figure 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from stagewise.reporting.draw import INK, colour, draw, label, marker
from stagewise.reporting.page import picture
from stagewise.reporting.view import View
from stagewise.runs.verdict import of_guessing

KINDS = (("validation_loss", "-", "validation"), ("loss", "--", "training"))
MARGIN = 0.05  # of the span, above and below


def loss_curves(views: Sequence[View]) -> list[str]:
    """Return one picture per run that has a finished stage, all with the same loss axis."""
    values = [record[kind] for view in views for c in view.curves.values() for record in c for kind, _, _ in KINDS
              if kind in record]  # fmt: skip
    if not values:
        return []
    margin = MARGIN * (max(values) - min(values)) or 0.1
    limits = min(values) - margin, max(values) + margin
    return [_picture(view, f"loss{number}", limits) for number, view in enumerate(views) if view.curves]


def _picture(view: View, key: str, limits: tuple[float, float]) -> str:
    numbers = {stage["name"]: stage["index"] - 1 for stage in view.facts["stages"]}

    def paint(axes: Axes) -> None:
        for name, curve in view.curves.items():
            axes.plot([], [], color=colour(numbers[name]), label=label(name))
            for kind, line, _ in KINDS:
                epochs = [record["epoch"] for record in curve if kind in record]
                losses = [record[kind] for record in curve if kind in record]
                # A line of one point would not be seen: random weights, which are never trained.
                dot = marker(numbers[name]) if len(epochs) == 1 else ""
                axes.plot(epochs, losses, line, marker=dot, color=colour(numbers[name]))
        for _, line, words in KINDS:
            axes.plot([], [], line, color=INK, label=label(words))
        axes.set(title=view.facts["schedule"], xlabel="epoch", ylabel="loss", ylim=limits)
        axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True))

    changes = "; ".join(f"{name} {_change(curve)}" for name, curve in view.curves.items())
    alt = f"Loss of the stages of {view.name} over their epochs. Validation: {changes}."
    return picture(
        draw(key, alt, 3.2, paint),
        f"{view.name}: loss of every stage, trained by the {view.facts['schedule']} schedule. "
        f"Epoch 0 is before training{of_guessing(view.facts['stages'])}.",
    )


def _change(curve: Sequence[dict[str, Any]]) -> str:
    losses = [record["validation_loss"] for record in curve if "validation_loss" in record]
    if not losses:
        return "not measured"
    return f"{losses[0]:.3f}" if len(losses) == 1 else f"{losses[0]:.3f} to {losses[-1]:.3f}"
