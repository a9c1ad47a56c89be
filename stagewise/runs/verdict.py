"""What a probe's accuracy says of the weights it was fitted on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BETTER = "better than random weights"
# What is said of a probe that is not better, and what helps.
REMEDIES = {
    "no better than guessing": "train the stage for longer, or the probe (its epochs, its learning rate)",
    "worse than random weights": "train the stage for more epochs, or with a lower learning rate",
    "not clearly better than random weights": "more epochs or more test items may tell",
}
GUESSING, WORSE, UNSURE = REMEDIES


def verdict(probe: Mapping[str, Any]) -> str:
    """Compare a probe with guessing and, where it was also fitted on them, with random weights.

    Better or worse is said only where random weights lie outside of the probe's 95 % interval.

    Args:
        probe: its `value`, its `interval`, `majority` (always saying the most frequent class of the training items)
            and `random`, None or the same of random weights.

    Returns:
        A few words; "" where there is nothing to say.
    """
    random = probe["random"]
    if probe["value"] <= probe["majority"]:
        return GUESSING
    if random is None:
        return ""
    low, high = probe["interval"]
    return WORSE if high < random["value"] else UNSURE if low <= random["value"] else BETTER
