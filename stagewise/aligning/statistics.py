"""How sure an alignment is: counts, scores, silence, and the items that deserve a look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stagewise.aligning.align import NO_TRANSCRIPT, Line, items_file, runs
from stagewise.aligning.aligner import NUMBER, PHONES, SILENCE
from stagewise.show import counted, seconds_text

FAR = 5.0  # median deviations below the median from which a score is doubtful: no right transcript, every wrong one
SHOWN = 5


def facts(file: Path, lines: Sequence[Line]) -> dict[str, Any]:
    """Return what `align` found as facts, JSON-able; times are in seconds, scores in nats per frame."""
    aligned = [line for line in lines if "phones" in line]
    failed = [{"key": line["key"], "reason": line["failed"]} for line in lines if "failed" in line]
    scores = np.array([line["score"] for line in aligned])
    middle = float(np.median(scores))
    limit = middle - FAR * float(np.median(np.abs(scores - middle)))
    every = np.array([run for line in aligned for run in runs(line)])
    spoken = every[:, 0] != NUMBER[SILENCE]
    low, high = np.percentile(scores, [5, 95])
    return {
        "format": 1,
        "file": str(file),
        "items_file": str(items_file(file)),
        "classes": PHONES,
        "items": len(lines),
        "aligned": len(aligned),
        "seconds": round(sum(line["seconds"] for line in aligned), 2),
        "score": {"lowest": scores.min(), "5%": low, "median": middle, "95%": high, "highest": scores.max()},
        "silence": float(every[~spoken, 1].sum() / every[:, 1].sum()),
        "median_phone_seconds": float(np.median(every[spoken, 1])) / 100 if spoken.any() else None,
        "unknown_words": dict(
            sorted({word: said for line in aligned for word, said in line["unknown"].items()}.items())
        ),
        "spelled_words": sorted({word for line in aligned for word in line.get("spelled", ())}),
        "doubtful": [
            {"key": line["key"], "score": line["score"]}
            for line in sorted(aligned, key=lambda line: float(line["score"]))
            if line["score"] < limit
        ],
        "without_transcript": sum(each["reason"] == NO_TRANSCRIPT for each in failed),
        "failed": failed,
    }


def words(found: dict[str, Any]) -> list[str]:
    """Say in a few lines what `facts` found."""
    score, unknown, phone = found["score"], found["unknown_words"], found["median_phone_seconds"]
    lines = [
        f"{found['aligned']:,} of {counted(found['items'], 'item')} aligned, {seconds_text(found['seconds'])}",
        f"  score   {score['median']:.2f} (90 % from {score['5%']:.2f} to {score['95%']:.2f}): nats a frame, 0 at best",
        f"  silence {found['silence']:.1%}",
    ]
    if phone is not None:
        lines.append(f"  phones  last {1000 * phone:.0f} ms (median)")
    if unknown:
        said = [f"{word} ({phones})" for word, phones in unknown.items()]
        lines.append(f"  unknown {_some(said)}: {len(unknown):,} in all, as espeak-ng says them")
    if spelled := found["spelled_words"]:
        lines.append(
            f"  spelled {_some(spelled)}: {len(spelled):,} of them letter by letter, as espeak-ng says them in sounds "
            "that are no English phones; write them as they sound, or doubt their labels"
        )
    if doubtful := found["doubtful"]:
        named = [f"{each['key']} ({each['score']:.2f})" for each in doubtful]
        lines.append(f"  doubtful {_some(named)}: far below the others, perhaps not what is said")
    if found["without_transcript"]:
        lines.append(
            f"  {counted(found['without_transcript'], 'item')} without a transcript: NAME.txt beside it, or a line "
            "`NAME text` of a .trans.txt there"
        )
    others = [each for each in found["failed"] if each["reason"] != NO_TRANSCRIPT]
    lines += [f"  failed  {each['key']}: {each['reason']}" for each in others[:SHOWN]]
    if len(others) > SHOWN:
        lines.append(f"  failed  {counted(len(others) - SHOWN, 'other')}")
    return lines


def _some(named: Sequence[str]) -> str:
    return ", ".join(named[:SHOWN]) + (" …" if len(named) > SHOWN else "")
