"""What a probe's accuracy says of the weights it was fitted on, and a loss of its stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NOTICEABLE = 0.005  # nats: less is not seen in a loss of three digits
MOVED = 0.01  # of the loss before training: less is nothing to speak of
BETTER = "better than before training"
# What is said of a probe that is not better, and what helps.
ADVICE_ON = {
    "worse than before training": "train the stage for more epochs, or with a lower learning rate",
    "no better than always saying one class": "train the stage for longer, or the probe (its epochs, its lr); or these "
    "labels cannot be told from the data",
    "not clearly better than always saying one class": "more test items may tell, or more epochs of the stage",
    "not clearly better than before training": "more test items may tell, or more epochs of the stage",
}
WORSE, GUESSING, LIKE_GUESSING, UNSURE = ADVICE_ON


def guessing(train: Mapping[str, Any]) -> float | None:
    """Return the contrastive loss of guessing, ln(1 + negatives); None of other objectives and of older records.

    Args:
        train: what a stage's record says of its training; `information` is ln(1 + negatives) less the validation loss
            (van den Oord et al. 2018, equation 5).
    """
    information, loss = train.get("information"), train["validation_loss"]
    return None if information is None or loss is None else float(loss + information)


def of_guessing(stages: Sequence[Mapping[str, Any]]) -> str:
    """Return what guessing would give the stages of a run, to be put behind words on their losses; "" if unknown."""
    known = {f"{chance:.3f}" for stage in stages if (chance := guessing(stage["train"])) is not None}
    return f"; guessing gives {' or '.join(sorted(known))}" if known else ""


def above_guessing(train: Mapping[str, Any]) -> str:
    """Say that a stage's contrastive loss is higher than that of guessing; "" if it is not, or not known."""
    chance = guessing(train)
    if not train["epochs"] or chance is None or train["information"] > -NOTICEABLE:
        return ""
    loss = train["validation_loss"]
    return f"its loss, {loss:.3f}, is above that of guessing, {chance:.3f}: train it for more epochs"


def unmoved(history: Sequence[Mapping[str, Any]], best: int, again: Mapping[str, float] | None = None) -> str:
    """Say that training has hardly lowered a stage's loss, or not much below that of guessing; "" if it has.

    Args:
        history: losses of the untrained stage, and after every epoch.
        best: number of the epoch whose weights were kept.
        again: what these weights scored on windows that did not choose them, if they were scored again.
    """
    losses = [record["validation_loss"] for record in history if "validation_loss" in record]  # no mixture of both
    losses = losses or [record["loss"] for record in history if "loss" in record]
    if len(losses) < 2:
        return ""
    before, after = losses[0], losses[best - len(history)]  # the first ones may be missing
    information = history[best].get("validation_information")
    if again:
        after, information = again["loss"], again.get("information")
    chance = None if information is None else after + information
    if min(before, before if chance is None else chance) - after >= MOVED * abs(before):
        return ""
    guess = "" if chance is None else f", and guessing gives {chance:.3f}"
    return (
        f"its loss hardly moved, {before:.3f} → {after:.3f}{guess}: it knows little more than random weights; train it "
        "for more epochs, on more items, or with a higher learning rate"
    )


def verdict(probe: Mapping[str, Any]) -> tuple[str, str]:
    """Compare a probe with guessing and, where it was also fitted on them, with the same stages before training.

    Better or worse than before training is what the interval of their difference on the same items says; where older
    results have none, each must lie outside of the other's interval. The worst comes first.

    Args:
        probe: its `value`, its `interval`, `majority` (always saying the most frequent class of the training items),
            `random`, None or the same before training, and `paired`, None or the difference to them.

    Returns:
        "better", "unclear" or "worse", and a few words; "" where there is nothing to say.
    """
    random, paired, (low, high) = probe["random"], probe["paired"], probe["interval"]
    better = worse = False
    if paired is not None:
        better, worse = paired["interval"][0] > 0, paired["interval"][1] < 0
    elif random is not None:
        better = low > random["value"] and probe["value"] > random["interval"][1]
        worse = high < random["value"] and probe["value"] < random["interval"][0]
    if worse:
        return "worse", WORSE
    if probe["value"] <= probe["majority"]:
        return "worse" if high < probe["majority"] else "unclear", GUESSING
    if low <= probe["majority"]:
        return "unclear", LIKE_GUESSING
    if random is None:
        return "better", ""
    return ("better", BETTER) if better else ("unclear", UNSURE)
