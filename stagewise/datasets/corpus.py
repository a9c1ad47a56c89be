"""Speech spoken by espeak-ng, with the time of every phone, written as a corpus.

Legend: T samples, F label frames.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import soundfile

from stagewise.datasets.audio import resample
from stagewise.datasets.labels import HOP, SPAN, frame_count
from stagewise.durable import PARTIAL, disk_errors, publish, remove, write_bytes, write_json
from stagewise.errors import ConfigError, DataError

# Ask `espeak.py` in a process of its own for speech, one answer at a time.


@dataclass(frozen=True)
class Request:
    """What to say and how: `rate` in words per minute, `pitch` 0 to 100, `volume` 0 to 200."""

    text: str
    voice: str
    rate: int
    pitch: int
    volume: int


@dataclass(frozen=True)
class Speech:
    """What was said.

    Attributes:
        samples: int16 (T,).
        rate: samples per second.
        phones: every phoneme in espeak-ng's notation, with the sample at which it begins, in order.
    """

    samples: npt.NDArray[np.int16]
    rate: int
    phones: Sequence[tuple[int, str]]


def speak(requests: Sequence[Request]) -> Iterator[Speech]:
    """Yield the speech of every request, in order; the same list always gives the same samples.

    Raises:
        ConfigError: the extra `speech` is not installed.
        DataError: espeak-ng failed.
    """
    try:
        import espeakng_loader
    except ImportError:
        raise ConfigError(
            "synthetic speech needs espeak-ng: type  pip install 'stagewise[speech]'  and try again."
        ) from None
    order = {
        "library": str(espeakng_loader.get_library_path()),
        "data": str(espeakng_loader.get_data_path()),
        "requests": [asdict(request) for request in requests],
    }
    command = [sys.executable, "-I", str(Path(__file__).with_name("espeak.py"))]
    with tempfile.TemporaryFile() as messages:
        child = subprocess.Popen(  # noqa: S603 (our own file, run by our own Python)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages
        )
        with child:
            assert child.stdin is not None and child.stdout is not None  # noqa: PT018
            try:
                with child.stdin:
                    child.stdin.write(json.dumps(order).encode())
                for _ in requests:
                    yield _answer(child.stdout)
            except (BrokenPipeError, EOFError):
                code = child.wait()
                messages.seek(0)
                last = messages.read().decode(errors="replace").strip().rpartition("\n")[2]
                raise DataError(
                    f"espeak-ng stopped with code {code} ({last or 'no message'}): type "
                    "pip install --force-reinstall 'stagewise[speech]'  and try again."
                ) from None
            finally:
                child.kill()


def _answer(stream: IO[bytes]) -> Speech:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)
    data = stream.read(head["bytes"])
    if len(data) < head["bytes"]:
        raise EOFError
    return Speech(np.frombuffer(data, dtype=np.int16), head["rate"], [(at, name) for at, name in head["phonemes"]])


# Write a spoken corpus once: FLAC files, exact phone labels, and a marker that all of it is there.

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
