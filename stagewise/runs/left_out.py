"""What of the data a stage was not trained on, and what its store does not hold, in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stagewise.show import counted

SATURATED = 1e-3  # share of the values of an int8 store that may be cut without a word


def left_out(stage: Mapping[str, Any]) -> list[str]:
    """Say how many items were too short to be trained on, and whether values were cut to the range of int8.

    Args:
        stage: its facts, as `inspect --json` prints them.
    """
    short, store, words = stage["train"].get("skipped_items") or 0, stage["store"], list[str]()
    if short:
        encoded = "too short for a window, and was" if short == 1 else "too short for a window, and were"
        words.append(f"{counted(short, 'training item is', 'training items are')} {encoded} encoded but not trained on")
    cut, values = store.get("saturated") or 0, store["float32_bytes"] / 4
    if store["state"] == "written" and cut > SATURATED * values:
        words.append(
            f"{cut / values:.2%} of the values of its store lie outside the range that int8 was calibrated for, and "
            'were cut to its ends: store.dtype = "float16" keeps them as they are'
        )
    return words
