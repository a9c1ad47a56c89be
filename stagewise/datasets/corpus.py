"""Write a spoken corpus once: FLAC files, exact phone labels, and a marker that all of it is there.

Shape suffixes: T samples, F label frames.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from stagewise.atomic import PARTIAL, disk_errors, publish, remove, write_bytes, write_json
from stagewise.datasets.labels import HOP, SPAN, frame_count
from stagewise.datasets.resample import resample
from stagewise.datasets.speech import Request, Speech, speak
from stagewise.errors import DataError

SAMPLE_RATE = 16_000
SILENCE = "SIL"
MARKER, NAMES, ALIGNMENT = "complete.json", "phones.txt", "phone_alignment.txt"


@dataclass(frozen=True)
class Utterance:
    """One item to be spoken: its key, `SPEAKER-CHAPTER-NUMBER`, and how it is said."""

    key: str
    request: Request


def write_corpus(folder: Path, utterances: Sequence[Utterance], marker: dict[str, Any]) -> None:
    """Write the corpus, in LibriSpeech's layout, if it is not there; a crash leaves all of it or none.

    The marker is what `complete.json`, written last, holds.
    Several processes may ask for the same corpus at once: one writes it, the others wait.

    Raises:
        ConfigError: the extra `speech` is not installed.
        DataError: the folder cannot be written, or espeak-ng failed.
        DiskError: the disk is full or failing.
    """
    from filelock import FileLock

    if folder.exists():
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(f"{folder.name}.lock")).acquire()
    except OSError as error:
        raise DataError(
            f"cannot write synthetic speech to {folder.parent} ({error.strerror}): "
            "type --set data.root=FOLDER to name a folder that can be written."
        ) from error
    with lock, disk_errors(folder):
        if folder.exists():
            return
        partial = folder.with_name(folder.name + PARTIAL)
        remove(partial)  # espeak-ng must say the whole list in one go to say it the same way again
        partial.mkdir()
        _write(partial, utterances)
        write_json(partial / MARKER, marker)
        publish(partial, folder)


def _write(folder: Path, utterances: Sequence[Utterance]) -> None:
    from rich.console import Console
    from rich.progress import Progress

    phones: list[tuple[str, list[str]]] = []
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("speaking", total=len(utterances))
        for utterance, speech in zip(utterances, speak([u.request for u in utterances]), strict=True):
            samples_T = _at_16_khz(speech)
            speaker, chapter, _ = utterance.key.split("-")
            path = folder / speaker / chapter / f"{utterance.key}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, _flac(samples_T))
            phones.append((utterance.key, frame_phones(speech, len(samples_T))))
            progress.advance(task)
    names = [SILENCE, *sorted({name for _, frames in phones for name in frames} - {SILENCE})]
    number = {name: str(index) for index, name in enumerate(names)}
    lines = [" ".join([key, *(number[name] for name in frames)]) for key, frames in phones]
    write_bytes(folder / NAMES, "".join(f"{name}\n" for name in names).encode())
    write_bytes(folder / ALIGNMENT, "".join(f"{line}\n" for line in lines).encode())


def frame_phones(speech: Speech, samples: int) -> list[str]:
    """Return the phone at the centre of every label frame of `samples` samples at 16 kHz."""
    centres_F = (np.arange(frame_count(samples)) * HOP + SPAN / 2) * speech.rate / SAMPLE_RATE
    starts = [start for start, _ in speech.phones]
    names = [SILENCE, *(phone_class(name) for _, name in speech.phones)]
    return [names[index] for index in np.searchsorted(starts, centres_F, side="right")]


def phone_class(name: str) -> str:
    """Strip stress and variants from espeak-ng's name of a phone; all its pauses are silence."""
    if name.startswith("_"):
        return SILENCE
    if name == ";":  # the glide between `the` and `old`
        return "j"
    return name.lstrip("',%=").rstrip("2#-[") or name


def _at_16_khz(speech: Speech) -> npt.NDArray[np.int16]:
    samples_T = speech.samples.astype(np.float32)
    length = -(-len(samples_T) * SAMPLE_RATE // speech.rate)
    resampled_T = resample(
        lambda start, stop: samples_T[start:stop], len(samples_T), speech.rate, SAMPLE_RATE, 0, length
    )
    return np.clip(np.rint(resampled_T), -32768, 32767).astype(np.int16)


def _flac(samples_T: npt.NDArray[np.int16]) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples_T, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()
