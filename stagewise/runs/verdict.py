"""What a probe's accuracy says of the weights it was fitted on, and a loss of its stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BETTER = "better than random weights"
# What is said of a probe that is not better, and what helps.
REMEDIES = {
    "no better than always saying one class": "train the stage for longer, or the probe (its epochs, its lr)",
    "worse than random weights": "train the stage for more epochs, or with a lower learning rate",
    "not clearly better than always saying one class": "more test items may tell, or more epochs",
    "not clearly better than random weights": "more epochs or more test items may tell",
}
GUESSING, WORSE, LIKE_GUESSING, UNSURE = REMEDIES


def above_guessing(train: Mapping[str, Any]) -> str:
    """Say that a stage's contrastive loss is higher than that of guessing, ln(1 + negatives); "" if it is not.

    Args:
        train: what its record says of its training; `information` is ln(1 + negatives) less the validation loss
            (van den Oord et al. 2018, equation 5), None of other objectives and of older records.
    """
    information, loss = train.get("information"), train["validation_loss"]
    if not train["epochs"] or information is None or loss is None or information >= 0:
        return ""
    return f"its loss, {loss:.3f}, is above that of guessing, {loss + information:.3f}: train it for more epochs"


def verdict(probe: Mapping[str, Any]) -> str:
    """Compare a probe with guessing and, where it was also fitted on them, with random weights.

    Better or worse is said only where the other lies outside of the probe's 95 % interval.

    Args:
        probe: its `value`, its `interval`, `majority` (always saying the most frequent class of the training items)
            and `random`, None or the same of random weights.

    Returns:
        A few words; "" where there is nothing to say.
    """
    random = probe["random"]
    if probe["value"] <= probe["majority"]:
        return GUESSING
    low, high = probe["interval"]
    if low <= probe["majority"]:
        return LIKE_GUESSING
    if random is None:
        return ""
    return WORSE if high < random["value"] else UNSURE if low <= random["value"] else BETTER
