"""Utterances to align: their transcripts, and the work that is kept after a stop."""

from __future__ import annotations

import os
import re
import signal
import threading
import unicodedata
from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

from stagewise.aligning.aligner import Aligned, Aligner
from stagewise.datasets.base import Dataset
from stagewise.datasets.names import read_lines
from stagewise.errors import DataError, StagewiseError
from stagewise.signals import SIGNALS, Stop

# What is said in an audio file: its transcript, and the words of it.

NUMBER = re.compile(r"\w*\d\w*")
SPOKEN = re.compile("[&%@+=#$€£]")  # signs that are said as words
# What somebody wrote who heard it, such as [laughter], (coughs) or /noise/.
NOTE = re.compile(r"\[[^\]]*\]|<[^>]*>|\([^)]*\)|\{[^}]*\}|(?<!\w)/[^/]+/(?!\w)|\*[^*]+\*")


def find_transcripts(root: Path, names: Sequence[str]) -> list[str | None]:
    """Return the transcript of every audio file: NAME.txt beside it, or its line `NAME text` of a .trans.txt there.

    Args:
        root: the folder that the files lie below.
        names: their paths in it.

    Raises:
        DataError: a transcript cannot be read, or is not UTF-8.
    """
    tables: dict[Path, dict[str, str]] = {}
    found: list[str | None] = []
    for name in names:
        audio = root / name
        own = audio.with_suffix(".txt")
        if own.is_file():
            found.append(" ".join(line for _, line in read_lines(own)))
            continue
        if audio.parent not in tables:
            tables[audio.parent] = _table(audio.parent)
        found.append(tables[audio.parent].get(audio.stem))
    return found


def spare_transcripts(root: Path, names: Sequence[str]) -> list[str]:
    """Return the transcripts, among those of audio files, that are of no audio file: paths, or PATH: NAME of a line."""
    spare: list[str] = []
    stems: dict[Path, set[str]] = {}
    for audio in (root / name for name in names):
        stems.setdefault(audio.parent, set()).add(audio.stem)
    for folder, there in stems.items():
        own = {path.stem for path in folder.glob("*.txt") if not path.name.endswith(".trans.txt")}
        place = folder.relative_to(root).as_posix()
        if own & there:
            spare += [f"{place}/{stem}.txt".removeprefix("./") for stem in sorted(own - there)]
        spare += [f"{place}: {name}" for name in sorted(_table(folder).keys() - there) if name]
    return spare


def split_words(text: str, dictionary: Container[str]) -> list[str] | str:
    """Return a transcript's words in small letters, or why they cannot be told; accents and punctuation are dropped."""
    other = next((letter for letter in text if unicodedata.category(letter) in ("So", "No", "Lm")), None)
    if other is not None:
        return f"its transcript holds '{other}': write it in words"
    plain = unicodedata.normalize("NFKD", text.replace("’", "'")).lower()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    number = NUMBER.search(plain)
    if number is not None:
        return f"its transcript holds the number '{number[0]}': write it in words"
    sign, note = SPOKEN.search(plain), NOTE.search(plain)
    if sign is not None:
        return f"its transcript holds '{sign[0]}': write it in words"
    if note is not None:
        return f"its transcript holds '{note[0]}': take away what is not said, and brackets around what is"
    foreign = next((letter for letter in plain if letter.isalpha() and not letter.isascii()), None)
    if foreign is not None:
        return f"its transcript holds '{foreign}', which is no English letter"
    words = [word if word in dictionary else word.strip("'") for word in re.findall("[a-z']+", plain)]
    return [word for word in words if word] or "its transcript is empty"


def _table(folder: Path) -> dict[str, str]:
    """Read LibriSpeech's lists of transcripts, a line `NAME text` for each utterance."""
    table = dict[str, str]()
    for path in sorted(folder.glob("*.trans.txt")):
        if path.name.startswith("."):  # as no audio file's name does: macOS keeps notes of its own under ._NAME
            continue
        for number, line in read_lines(path):
            name, _, text = line.strip().partition(" ")
            if table.setdefault(name, text) != text:
                raise DataError(f"{path}:{number}: '{name}' has another transcript already: leave one of them.")
    return table


# Align many items, in one process or several, and keep each as soon as it is done.

MISFIT = "its words cannot be found in it: is this what is said?"


@dataclass(frozen=True)
class Item:
    """An item to be aligned.

    Attributes:
        number: of the data set.
        key: of the label file.
        frames: that want a label.
        words: that are said.
        unknown: the phones of those that are not in the dictionary.
        spelled: those of them that are taken letter by letter.
        digest: of everything that decides the result: the file's bytes, the words, and how unknown ones are said.
    """

    number: int
    key: str
    frames: int
    words: Sequence[str]
    unknown: Mapping[str, str]
    spelled: Sequence[str]
    digest: str


def align_all(dataset: Dataset, items: Sequence[Item], jobs: int, stop: Stop) -> Iterator[tuple[Item, Aligned | str]]:
    """Yield every item as soon as it is done, with its phones or with why there are none.

    Raises:
        StagewiseError: a process was killed from outside.
        Interrupted: so it was, and a signal asked to stop.
    """
    if min(jobs, len(items)) <= 1:
        worker = _Worker(dataset)
        yield from ((item, worker(item)) for item in items)
        return
    # Not forked: a copy of a process with threads, as torch's, may hang.
    context = get_context("spawn")
    pool = ProcessPoolExecutor(min(jobs, len(items)), context, initializer=_begin, initargs=(dataset,))
    running: dict[Future[Aligned | str], Item] = {}
    try:
        for item in items:
            if len(running) >= 2 * jobs:
                yield from _finished(running)
            running[_submit(pool, item)] = item
        while running:
            yield from _finished(running)
    except BrokenProcessPool:
        stop.check("what is done is kept.")
        raise StagewiseError(
            "a process that aligned was ended from outside (no memory left?): type the same command again, with "
            "fewer --jobs; what is done is kept."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _submit(pool: ProcessPoolExecutor, item: Item) -> Future[Aligned | str]:
    try:
        with _no_signals():  # a process that is started by this inherits that
            return pool.submit(_align, item)
    except OSError as error:
        if error.errno is None:  # "handle is closed": the pool broke while another process was to be started
            raise BrokenProcessPool from error
        raise


def _finished(running: dict[Future[Aligned | str], Item]) -> Iterator[tuple[Item, Aligned | str]]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        yield running.pop(future), future.result()


@contextmanager
def _no_signals() -> Iterator[None]:
    """Let signals of this thread wait while the body runs: a process that imports would end with a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    def __init__(self, dataset: Dataset) -> None:
        self.dataset, self.aligner = dataset, Aligner()

    def __call__(self, item: Item) -> Aligned | str:
        try:
            samples_T = self.dataset.read(item.number, 0, int(self.dataset.lengths[item.number]))[0]
        except DataError as error:
            return str(error)
        return self.aligner.align(samples_T, item.words, item.unknown, item.frames) or MISFIT


_worker: _Worker | None = None  # of a process of the pool


def _begin(dataset: Dataset) -> None:
    """Make a process of the pool ready; it leaves signals to the parent, and ends when that does."""
    global _worker
    _worker = _Worker(dataset)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _align(item: Item) -> Aligned | str:
    assert _worker is not None
    return _worker(item)
