"""Whether `init` can make a pipeline of what is in a folder, as facts for programs and in words."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from stagewise.errors import ConfigError, DataError
from stagewise.show import counted, seconds_text
from stagewise.starting.look import Pictures, Recordings
from stagewise.starting.machine import this_machine
from stagewise.starting.write import choose


def verdict(content: Recordings | Pictures, alone: bool) -> dict[str, Any]:
    """Choose a recipe as `init` does, and say what came of it, JSON-able.

    Args:
        content: of a folder.
        alone: whether it is all there is, of whatever kind.
    """
    try:
        recipe, _, _ = choose(content, this_machine(), "pipeline", Path("pipeline.toml"))
    except (ConfigError, DataError) as error:
        to_choose = isinstance(error, ConfigError)
        return {"fit": False, "why": str(error), "to_choose": to_choose, "notes": content.notes}
    typed = ["stagewise", "init", str(content.root), *([] if alone else ["--kind", content.kind])]
    typed += [] if content.labels is None else ["--labels", content.labels]
    return {
        "fit": True,
        "items": recipe.items,
        "too_short": recipe.short,
        "labels": {label: dict(classes.most_common()) for label, classes in recipe.labels.items()},
        "phones": recipe.phones,
        "notes": recipe.notes,
        "next": shlex.join(typed),
    }


def verdict_words(found: dict[str, Any]) -> list[str]:
    """Say what `facts` and `verdict` found: labels, what is too short, what is not used, and last what to type."""
    if not found["fit"]:
        return [*found["notes"], f"not fit to train on: {found['why'].partition(chr(10))[0].rstrip(':')}"]
    lines = []
    for label, classes in found["labels"].items():
        (most, many), *_, (least, few) = classes.items()
        without = found["items"] - sum(classes.values())
        lines.append(
            f"label {label}: {len(classes):,} classes of {few:,} ({least}) to {counted(many, 'file')} ({most})"
            + (f"; {without:,} without" if without > 0 and found["kind"] == "audio" else "")
        )
    lines += found["notes"]
    what = counted(found["items"], "recording" if found["kind"] == "audio" else "image")
    if found["too_short"]:
        what = f"{found['items'] - found['too_short']:,} of {what} (the others do not fill a training window)"
    all_used = found["items"] == found["usable"] and not found["too_short"]
    long = [seconds_text(found["seconds"])] if found["kind"] == "audio" and all_used else []
    labels = [*found["labels"], *(["phones"] if found["phones"] else [])]
    known = f"labels: {', '.join(labels)}" if labels else "no labels found"
    return [*lines, f"fit to train on: {', '.join([what, *long, known])}; next: {found['next']}"]
