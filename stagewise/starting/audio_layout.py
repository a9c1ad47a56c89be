"""How a folder's audio files become items: as LibriSpeech's, or as any folder's; their keys and their labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np

from stagewise.datasets.librispeech import UTTERANCE
from stagewise.datasets.names import Names
from stagewise.show import counted
from stagewise.starting.beside import Beside
from stagewise.starting.look import Recordings, deeper, folders, tells_apart
from stagewise.starting.recipe import Line, root_line, toml

PARTS = {"train", "test", "dev", "val", "valid", "validation", "eval"}
T = TypeVar("T")


@dataclass(frozen=True)
class Layout:
    """How files become items.

    Attributes:
        target: of the data table.
        lines: the first of the data table.
        keys: of the items, by path below the folder; bad files have one too.
        labels: how many items every class of a label has.
        notes: what else is to be known.
    """

    target: str
    lines: list[Line]
    keys: Mapping[str, str]
    labels: Mapping[str, Counter[str]]
    notes: Sequence[str] = ()


def audio_layout(content: Recordings, beside: Beside) -> Layout:
    """Take LibriSpeech's layout if half of the files or more lie as there, else that of any folder."""
    every = sorted([*content.names, *(item.key for item in content.bad)])
    spoken = {name: match for name in every if (match := UTTERANCE.fullmatch(name))}
    if 2 * len(spoken) < len(every) or beside.pattern is not None:
        return _any_folder(content, beside, every)
    ((prefix, _),) = Counter(match[1] or "" for match in spoken.values()).most_common(1)
    others = sorted({match[1] or "" for match in spoken.values()} - {prefix})
    names = [name for name, match in spoken.items() if (match[1] or "") == prefix]
    keys = [PurePosixPath(name).stem for name in names]
    paths = {key: name.removeprefix(f"{prefix}/") for name, key in zip(names, keys, strict=True)}
    splits, listed = beside.splits(Names(list(paths.values())))
    used = dict(_listed(list(zip(names, keys, strict=True)), listed))
    lines: list[Line] = [
        ("target", "librispeech", "SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE"),
        root_line("root", content.root / prefix, f"there are also: {', '.join(others)}" if others else ""),
        *splits,
    ]
    usable = [used[name] for name in content.names if name in used]
    speakers = Counter(key.split("-")[0] for key in usable)
    labels = {"speaker": speakers} if tells_apart(speakers) and beside.wants("speaker") else {}
    tables = beside.tables(content.root / prefix, Names([paths[key] for key in usable]), ("speaker",))
    if tables:
        why = f"tables found here, of {_of(tables)}"
        lines.append(("labels", {label: path for label, (path, _) in tables.items()}, why))
    beside.check([*labels, *tables])
    notes = _outside(content, sorted(set(every).difference(names)), prefix)
    labels |= {label: counts for label, (_, counts) in tables.items()}
    return Layout("librispeech", lines, used, labels, notes)


def _outside(content: Recordings, names: Sequence[str], prefix: str) -> list[str]:
    """Say which files are none of LibriSpeech's, or of another part of it, and what takes them."""
    if not names:
        return []
    return [
        f"not used, as they do not lie as SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE below {content.root / prefix}: "
        f'{counted(len(names), "audio file")}, such as {names[0]}; data.target = "audio-folder" with data.root = '
        f"{toml(str(content.root))} takes all"
    ]


def _any_folder(content: Recordings, beside: Beside, every: list[str]) -> Layout:
    splits, listed = beside.splits(Names(every, content.twins))
    used = {name: name for name in _listed(every, listed)}
    names, bad = [name for name in content.names if name in used], {item.key for item in content.bad}
    level = 2 if {name.lower() for name in folders(names)} <= PARTS else 1
    parts = "train and test are chosen file by file, whatever its folders say: data.splits takes lists"
    lines: list[Line] = [
        ("target", "audio-folder", ""),
        root_line("root", content.root, parts if level == 2 and len(folders(names)) > 1 and not splits else ""),
    ]
    sources: dict[str, str] = {}
    labels: dict[str, Counter[str]] = {}
    why = []
    classes = folders(names, level)
    if tells_apart(classes) and beside.wants("class"):
        source, which = ("folder", "first") if level == 1 else ("folder:2", "second")
        sources["class"], labels["class"] = source, classes
        why.append(f"a file's class is the {which} folder that it lies in")
    usable = np.array([item for item, name in enumerate(every) if name in used and name not in bad], np.int64)
    found = beside.labels(content.root, Names(every, content.twins).only(usable), sources)
    for label, (source, counts) in found.items():
        sources[label], labels[label] = source, counts
        where = "their names" if source == beside.pattern else "a table found here"
        why.append(f"{label}: of {counts.total():,} files, in {where}")
    if sources:
        lines.append(("labels", sources, "; ".join(why)))
    elif beside.wanted is None:
        _look_into_names(names, beside)
    beside.check(sources)
    notes = deeper(classes, folders(names, level + 1), content.root) if level == 1 else []
    return Layout("audio-folder", [*lines, *splits], used, labels, notes)


def _look_into_names(names: Sequence[str], beside: Beside) -> None:
    """Ask for a pattern where the names of all files have as many parts, and some of these could be classes."""
    for sign in "_-":
        rows = [PurePosixPath(name).stem.split(sign) for name in names]
        if len({len(row) for row in rows}) != 1 or len(rows[0]) < 2:
            continue
        columns = [Counter(column) for column in zip(*rows, strict=True)]
        could = [tells_apart(classes) and 4 * len(classes) <= len(rows) for classes in columns]
        if not any(could):
            continue
        parts = [f"{{label{number}}}" if like else "*" for number, like in enumerate(could, 1)]
        typed = f'--labels "{sign.join(parts)}"'
        example = PurePosixPath(names[0]).name
        words = f"names of files, such as {example}, may hold labels: type {typed}, with names of yours"
        worded = any(like and not any(map(str.isdigit, classes)) for like, classes in zip(could, columns, strict=True))
        if worded:  # numbers may be dates, and what they count
            beside.problem(f"{words}.")
        else:
            beside.note(words)
        return


def _of(tables: Mapping[str, tuple[str, Counter[str]]]) -> str:
    return ", ".join(f"{counts.total():,} files ({label})" for label, (_, counts) in tables.items())


def _listed(items: Sequence[T], listed: set[int] | None) -> list[T]:
    return [item for number, item in enumerate(items) if listed is None or number in listed]
