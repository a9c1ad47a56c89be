"""A pipeline for a folder of audio: its layout, its windows and strides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeVar

import numpy as np

from stagewise.datasets.audio import Rules
from stagewise.datasets.bad_items import judge
from stagewise.datasets.base import BadItem, Dataset
from stagewise.datasets.librispeech import SAMPLE_RATE, UTTERANCE, below
from stagewise.datasets.names import Names
from stagewise.starting.audio_stages import fitted
from stagewise.starting.lists_and_tables import Beside
from stagewise.starting.recipe import Line, Recipe, few, root_line, skipped, toml
from stagewise.starting.survey import Recordings, deeper, folders, tells_apart
from stagewise.text import counted, seconds_text

# How a folder's audio files become items: as LibriSpeech's, or as any folder's; their keys and their labels.

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
    called = sorted(name for name in folders(names) if name.lower() in PARTS)
    if level == 2 and len(folders(names)) > 1 and not splits:
        notes.append(f"{', '.join(called)}: {parts}")
    elif level == 1 and called and "class" in sources:
        notes.append(f"{', '.join(called)} are classes, though called as parts of a data set: data.splits takes lists")
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


# What suits a folder of audio files: how they become items, how loud they are, and the stages that fit them.

FEW = 300  # seconds: less teaches little that random weights do not know
HEARD_ITEMS, HEARD_PARTS = 64, 4  # how many items are listened to, and in how many places each
HEARD_SECONDS, HEARD_WITHIN = 1.0, 60.0  # of each part, and from an item's beginning: what is far in is slow to decode
SILENT = 1e-6  # deviation: less is no sound
AS_LOUD = 1.25  # times louder or quieter than LibriSpeech: not worth a line


def audio_recipe(content: Recordings, gpu: bool) -> Recipe:
    """Choose the data set, its rate and channels, the window, and the width of the stages.

    Raises:
        DataError: more than 1 % of the files are bad, or none is long enough.
    """
    beside = Beside(content)
    layout = audio_layout(content, beside)
    known = zip(content.names, content.headers, strict=True)
    headers = {name: header for name, header in known if name in layout.keys}
    rate = SAMPLE_RATE
    if layout.target == "audio-folder":
        rates = Counter(header.rate for header in headers.values())
        rate = min([SAMPLE_RATE, *(number for number, _ in rates.most_common(1))])
    rules = Rules(rate, "skip", resample=True, mono=True, mean=0, std=1)
    problems = {name: problem for name, header in headers.items() if (problem := rules.problem(header))}
    bad = [item for item in content.bad if item.key in layout.keys]
    bad += [BadItem(name, f"{content.root}/{name}", problem) for name, problem in problems.items()]
    judge(bad, len(layout.keys), "audio", "skip")
    used = {name: header for name, header in headers.items() if name not in problems}
    lengths = np.array([-(-header.samples * rate // header.rate) for header in used.values()], np.int64)
    stack = fitted(lengths, rate, gpu)
    seconds = float(lengths.sum()) / rate
    short = int((lengths < stack.span).sum())

    data = list(layout.lines)
    rates = Counter(header.rate for header in used.values())
    if layout.target == "audio-folder":
        lost = "the paper's; pitches above half of it are lost: raise it to keep them"
        data.append(("sample_rate", rate, lost if max(rates) > rate else "samples per second of every item"))
    if set(rates) != {rate}:
        given = ", ".join(f"{number:,}" for number in sorted(rates))
        data.append(("resample", True, f"the files have {given} samples per second"))
    if any(header.channels > 1 for header in used.values()):
        data.append(("mono", True, "the channels of files that have several are averaged"))
    if bad:
        data.append(skipped(bad, len(layout.keys)))
    phones: list[Line] = []
    if rate == SAMPLE_RATE:
        keys = [layout.keys[name] for name in used]
        phones = beside.phones(Names([below(key) for key in keys] if layout.target == "librispeech" else keys), lengths)
    if not phones:
        beside.no_phones(rate)
    return Recipe(
        data=[*data, *phones],
        objective=stack.objective(lengths),
        batch_size=8,
        learning_rate=stack.learning_rate,
        why_rate=stack.why_rate,
        falls=stack.falls,
        store=[]
        if gpu
        else [("compress", "zstd", "a quarter to six tenths of the bytes of convolutions, and fast enough for a CPU")],
        stages=stack.stages(),
        labels=layout.labels,
        notes=[*content.notes, *layout.notes, *beside.notes, *(few(seconds_text(seconds)) if seconds < FEW else [])],
        items=len(used),
        short=short,
        images=False,
    )


def loudness(dataset: Dataset, default: tuple[float, float]) -> list[Line]:
    """Return the lines of mean and deviation for recordings that are louder or quieter than the default ones.

    What is standardised by the deviation of another loudness enters the first stage too small or too large for its
    initial weights.

    Args:
        dataset: standardised by the default.
        default: mean and deviation.
    """
    mean, std = default
    present = dataset.pool()
    present = present[dataset.lengths[present] > 0]
    chosen = present[np.unique(np.linspace(0, len(present) - 1, min(HEARD_ITEMS, len(present))).astype(int))]
    count, total, squares = 0, 0.0, 0.0
    for item in chosen.tolist():
        length = int(dataset.lengths[item])
        part = min(length, int(HEARD_SECONDS * dataset.sample_rate))
        last = min(length, int(HEARD_WITHIN * dataset.sample_rate)) - part
        for begin in np.unique(np.linspace(0, last, HEARD_PARTS).astype(int)).tolist():
            samples_T = dataset.read(item, begin, begin + part)[0].astype(np.float64) * std + mean
            count, total, squares = count + part, total + samples_T.sum(), squares + np.square(samples_T).sum()
    if not count:
        return []
    found_mean = total / count
    found = float(np.sqrt(max(0.0, squares / count - found_mean**2)))
    if found <= SILENT or (1 / AS_LOUD <= found / std <= AS_LOUD and abs(found_mean - mean) <= std / 10):
        return []
    heard = f"of {counted(len(chosen), 'file')} that were listened to"
    return [
        ("mean", float(f"{found_mean:.2g}"), f"of the samples, between -1 and 1, {heard}"),
        ("std", float(f"{found:.3g}"), f"their deviation; LibriSpeech's, which is the default, is {std:.3g}"),
    ]
