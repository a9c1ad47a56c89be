"""Phone labels of a folder of transcribed speech, and how sure they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from stagewise import durable
from stagewise.aligning.aligner import NUMBER, PHONES, SILENCE, Aligned, pronounce, read_dictionary, spell
from stagewise.aligning.work import Item, align_all, find_transcripts, spare_transcripts, split_words
from stagewise.datasets.audio_folder import AudioFolder
from stagewise.datasets.bad_items import probe_all
from stagewise.datasets.files import find
from stagewise.datasets.labels import HOP, SPAN, frame_count
from stagewise.datasets.librispeech import SAMPLE_RATE, UTTERANCE
from stagewise.errors import ConfigError, DataError, StagewiseError
from stagewise.signals import stoppable
from stagewise.text import counted, seconds_text

# Align a folder of speech: every item is kept as soon as it is done, and the label file is written at the end.

FORMAT = 1  # of the work that is kept; to be raised when other labels come out
LONGEST = 120  # seconds of an item: its alignment takes 0.4 GB
NO_TRANSCRIPT = "it has no transcript"
NEEDED = ("pocketsphinx", "espeakng-loader")

Line = dict[str, Any]


def align(root: Path, file: Path, jobs: int, report: Callable[..., None]) -> list[Line]:
    """Write the phone labels of all speech below a folder, and beside them what became of every item.

    What is done is kept in the second file line by line, so that the same command goes on from there.

    Args:
        root: the folder.
        file: of the labels, to be read as `data.phones`.
        jobs: processes.
        report: what is told of progress.

    Returns:
        a line for every item in the order of their keys: `key`, `seconds`, and either `phones` (a class and its
        number of frames for each), `score`, `unknown` (words that the dictionary lacks, with their phones) and
        `spelled` (those of them that are taken letter by letter), or `failed`, the reason.

    Raises:
        ConfigError: the extra `align` is not installed, or the file is one that was not made here.
        DataError: the folder holds no speech, its files or transcripts cannot be read, or none can be aligned.
        DiskError: the disk is full or failing.
        Interrupted: a signal asked to stop.
    """
    header = {"format": FORMAT, "classes": PHONES, **_versions()}
    kept = items_file(file)
    if file.is_dir() or (file.exists() and not kept.exists()):
        raise ConfigError(f"{file} is there already, and was not made by `data align`: name another with --out.")
    if not find(root).count("audio"):
        raise DataError(f"{root} holds no audio files: name the folder that holds the speech.")
    dataset = AudioFolder(str(root), bad_items="skip", resample=True, mono=True, mean=0.0, std=1.0)
    for note in dataset.notes:
        report("note", text=note)
    items, lines = _prepare(dataset, report)
    lines += [{"key": _key(bad.key), "seconds": 0.0, "failed": bad.reason} for bad in dataset.bad]
    with _alone(file), stoppable() as stop:
        done = _kept(kept, header, report)
        todo = []
        for item in items:
            line = done.get(item.key)
            if line is not None and line.get("digest") == item.digest:
                lines.append(line)
            else:
                todo.append(item)
        of, ready = _seconds(items), _seconds(items) - _seconds(todo)
        for item, found in align_all(dataset, todo, jobs, stop):
            lines.append(_line(item, found))
            durable.append_line(kept, lines[-1])
            ready += _seconds([item])
            report("align", seconds=round(ready), of=round(of))
            stop.check(f"{kept} keeps what is done.")
        lines.sort(key=lambda line: str(line["key"]))
        if not any("phones" in line for line in lines):
            raise DataError(f"none of {counted(len(lines), 'item')} can be aligned. {_first_failure(lines)}")
        durable.write_bytes(kept, (_encoded(line) for line in [header, *lines]))
        durable.write_bytes(file, (_labels(line) for line in lines if "phones" in line))
    return lines


def items_file(file: Path) -> Path:
    """Return the place of what is known of every item of a label file."""
    return file.with_name(f"{file.name}.items.jsonl")


def runs(line: Line) -> list[tuple[int, int]]:
    """Return the class and the number of frames of every phone of an aligned item."""
    pairs = (run.split("*") for run in line["phones"].split())
    return [(int(number), int(frames)) for number, frames in pairs]


def _versions() -> dict[str, str]:
    try:
        return {name: version(name) for name in NEEDED}
    except PackageNotFoundError as missing:
        raise ConfigError(f"data align needs {missing.name}: type `pip install 'stagewise[align]'`.") from None


def _prepare(dataset: AudioFolder, report: Callable[..., None]) -> tuple[list[Item], list[Line]]:
    """Return the items that can be tried, and a line for each that cannot."""

    def tell(done: int) -> None:
        report("look", what="audio", files=done, of=len(dataset))

    dictionary = read_dictionary()
    texts = find_transcripts(dataset.root, dataset.keys)
    if spare := spare_transcripts(dataset.root, dataset.keys):
        what = counted(len(spare), "transcript is", "transcripts are")
        report("note", text=f"{what} of no audio file, such as {spare[0]}")
    words = [NO_TRANSCRIPT if text is None else split_words(text, dictionary) for text in texts]
    unknown = sorted({word for each in words if isinstance(each, list) for word in each} - dictionary)
    said = pronounce(unknown)
    spelled = {word: spell(word) for word in unknown if word not in said}
    said |= spelled
    hashes = probe_all(durable.sha256_of, [dataset.root / name for name in dataset.keys], tell)
    items: dict[str, Item] = {}
    lines: list[Line] = []
    lengths = dataset.lengths.tolist()
    for number, (name, each, length, sha256) in enumerate(zip(dataset.keys, words, lengths, hashes, strict=True)):
        key, frames = _key(name), frame_count(length)
        if key in items:
            raise DataError(f"{dataset.root} holds '{key}' twice, once as {name}: name one of the folders below it.")
        problem = _problem(key, frames)
        if isinstance(each, str) or problem is not None:
            reason = each if isinstance(each, str) else problem
            lines.append({"key": key, "seconds": round(length / SAMPLE_RATE, 2), "failed": reason})
        else:
            phones = {word: said[word] for word in each if word not in dictionary}
            digest = hashlib.sha256(json.dumps([sha256, each, phones]).encode()).hexdigest()
            by_letters = [word for word in phones if word in spelled]
            items[key] = Item(number, key, frames, each, phones, by_letters, digest[:16])
    return list(items.values()), lines


def _key(name: str) -> str:
    """Return the key that `librispeech` gives a file in its layout, or else the one that `audio-folder` does."""
    return Path(name).stem if UTTERANCE.fullmatch(name) else name


def _problem(key: str, frames: int) -> str | None:
    if '"' in key and _written(key) != key:
        return "a name with blanks and double quotes cannot stand in a label file: rename the file or its folder"
    if not frames:
        return f"it is shorter than a label, {1000 * SPAN / SAMPLE_RATE:.0f} ms"
    if frames * HOP > LONGEST * SAMPLE_RATE:
        return f"it is longer than {seconds_text(LONGEST)}: cut it at pauses, and its transcript with it"
    return None


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Be the only one who makes this file."""
    lock = FileLock(file.with_name(f"{file.name}.lock"), timeout=0)
    try:
        with durable.disk_errors(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout:
        raise StagewiseError(f"{file} is being made by another process: wait for it, or stop it.") from None
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"{file} lies below a file: name another with --out.") from None
    try:
        yield
    finally:
        lock.release()


def _kept(path: Path, header: Line, report: Callable[..., None]) -> dict[str, Line]:
    """Return the lines of the items that were aligned before in the same way, or start over."""
    head, *lines = durable.read_lines(path) or [None]
    if head != header:
        if lines:
            now = ", ".join(f"{name} {header[name]}" for name in NEEDED)
            report("note", text=f"{path} is of another version than {now}: all of it is aligned again.")
        durable.write_bytes(path, _encoded(header))
        return {}
    return {str(line.get("key")): line for line in lines if isinstance(line, dict) and "phones" in line}


def _line(item: Item, found: Aligned | str) -> Line:
    line = {"key": item.key, "seconds": _seconds([item])}
    if isinstance(found, str):
        return {**line, "failed": found}
    phones = " ".join(f"{number}*{frames}" for number, frames in found.runs)
    unknown = {"unknown": dict(item.unknown), "spelled": list(item.spelled)}
    return {**line, "digest": item.digest, "score": found.score, **unknown, "phones": phones}


def _seconds(items: Sequence[Item]) -> float:
    return round(sum(item.frames for item in items) * HOP / SAMPLE_RATE, 2)


def _encoded(line: Line) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _labels(line: Line) -> bytes:
    classes = [f"{number} " * frames for number, frames in runs(line)]
    return f"{_written(line['key'])} {''.join(classes).rstrip()}\n".encode()


def _written(key: str) -> str:
    """Return a key as it stands in a label file: in quotes, where a blank or a quote would end it."""
    return f'"{key}"' if len(key.split()) > 1 or key.startswith('"') else key


def _first_failure(lines: Sequence[Line]) -> str:
    return f"The first, {lines[0]['key']}: {lines[0]['failed']}."


# How sure an alignment is: counts, scores, silence, and the items that deserve a look.

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
