"""What is in a folder, as facts for programs and in words."""

from __future__ import annotations

from collections import Counter
from typing import Any

from stagewise.show import bytes_text, counted, seconds_text
from stagewise.starting.look import Pictures, Recordings, folders

SHOWN = 4  # kinds of a thing that are named one by one


def facts(content: Recordings | Pictures) -> dict[str, Any]:
    """Return counts, durations or sizes, and the bad files with reasons, JSON-able."""
    found: dict[str, Any] = {
        "kind": content.kind,
        "files": len(content.names) + len(content.bad),
        "usable": len(content.names),
        "bytes": sum(header.size for header in content.headers),
    }
    if isinstance(content, Recordings):
        seconds = content.seconds
        found["seconds"] = sum(seconds)
        found["shortest_seconds"], found["longest_seconds"] = min(seconds, default=0.0), max(seconds, default=0.0)
        found["rates"] = dict(Counter(header.rate for header in content.headers).most_common())
        found["channels"] = dict(Counter(header.channels for header in content.headers).most_common())
    else:
        sizes = Counter((header.height, header.width) for header in content.headers)
        found["sizes"] = [
            {"height": height, "width": width, "images": count} for (height, width), count in sizes.most_common()
        ]
        found["colour"] = sum(header.colour for header in content.headers)
    found["folders"] = dict(sorted(folders(content.names).items()))
    found["bad"] = [{"file": item.path, "reason": item.reason} for item in content.bad]
    return found


def words(found: dict[str, Any]) -> list[str]:
    """Say in a few lines what `facts` found, without the bad files."""
    audio = found["kind"] == "audio"
    head = f"{counted(found['usable'], 'audio file' if audio else 'image')}, {bytes_text(found['bytes'])}"
    if not found["usable"]:
        return [head]
    if audio:
        lines = [
            f"{head}, {seconds_text(found['seconds'])} in all",
            f"from {seconds_text(found['shortest_seconds'])} to {seconds_text(found['longest_seconds'])} each",
            f"samples per second: {_counts({f'{rate:,}': count for rate, count in found['rates'].items()})}",
            f"channels: {_counts({str(number): count for number, count in found['channels'].items()})}",
        ]
    else:
        sizes = {f"{size['height']} × {size['width']}": size["images"] for size in found["sizes"]}
        lines = [
            head,
            f"pixels (height × width): {_counts(sizes)}",
            f"in colour: {_part(found['colour'], found['usable'])}",
        ]
    if len(found["folders"]) > 1:
        counts = found["folders"].values()
        many = f"{min(counts):,} to " if min(counts) < max(counts) else ""
        lines.append(f"in {len(found['folders']):,} folders of {many}{counted(max(counts), 'file')} each")
    return lines


def _part(some: int, every: int) -> str:
    return {0: "none", every: "all"}.get(some, f"{some:,} of {every:,}")


def _counts(counts: dict[str, int]) -> str:
    """Write what there is one of alone, and else how many there are of the most frequent ones."""
    if len(counts) == 1:
        return next(iter(counts))
    named = [f"{name} ({counted(count, 'file')})" for name, count in list(counts.items())[:SHOWN]]
    return ", ".join(named + ([counted(len(counts) - SHOWN, "other")] if len(counts) > SHOWN else []))
