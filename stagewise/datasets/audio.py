"""Look at audio files and read slices of them through soundfile, sample by sample exact.

Shape suffixes: T samples, C channels.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile

from stagewise.datasets.bad_items import AGAIN
from stagewise.errors import DataError

Floats = npt.NDArray[np.float32]

# Seeking is exact for these encodings (FLAC and plain WAV). In OGG and MP3 it is not, by up to 0.05
# (measured): those are decoded from their beginning, in blocks.
SEEKS_EXACTLY = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
BLOCK = 65536
UNKNOWN_LENGTH = 2**62
# How libsndfile's log tells of a WAV or an OGG that was cut short, which it opens as if that were all of it.
CUT_WAV = re.compile(r"^data : (\d+) \(should be (\d+)\)", re.MULTILINE)
CUT_OGG = re.compile(r"^Ogg ?: Last page lacks an end-of-stream bit", re.MULTILINE)
STREAMED = 2**31 - 2**16  # sizes from here on are of a writer that did not know how long its WAV would be


@dataclass(frozen=True)
class Header:
    """What a file says of itself: samples per channel, samples per second, channels, bytes on disk."""

    samples: int
    rate: int
    channels: int
    size: int


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """A file that is only read forwards: soundfile seeks after each read of others, which spoils an MP3."""

    def seekable(self) -> bool:
        return False


def probe(path: str) -> Header | str:
    """Look at a file's header and decode its last sample; return what is wrong with it if something is.

    The last sample costs a quarter of a millisecond and finds files that end before their header says. What is
    damaged inside, or is not a number there, is found when it is read.
    """
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            return "it is not a regular file"  # opening a pipe would wait for ever
        if status.st_size == 0:
            return "the file is empty"
        with soundfile.SoundFile(os.fsencode(path)) as file:
            header = Header(file.frames, file.samplerate, file.channels, status.st_size)
            if header.samples <= 0:
                return "the file holds no samples"
            if header.samples >= UNKNOWN_LENGTH:
                return "its header does not say how long it is: encode it anew"
            if _is_cut(file.extra_info):
                return "it ends before its header says: the file is cut short or damaged"
            if file.seekable():
                return header if _ends_where_it_says(file) else _cut_short(header.samples)
            return header
    except OSError as error:
        return error.strerror or str(error)
    except soundfile.SoundFileError as error:
        return _words(path, error)


class Reader:
    """A file that is held open, for slices that mostly go forwards; for one thread at a time.

    Raises:
        DataError: the file cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._open()

    def read(self, start: int, stop: int) -> Floats:
        """Read samples start to stop of all channels: float32 (T, C) in [-1, 1] for integer encodings.

        Raises:
            DataError: the file cannot be read so far, or holds NaN or infinite samples.
        """
        try:
            if self._file.subtype in SEEKS_EXACTLY:
                self._file.seek(start)
                samples_TC = self._file.read(stop - start, dtype="float32", always_2d=True)
            else:
                samples_TC = self._decode_up_to(start, stop)
        except soundfile.SoundFileError as error:
            raise DataError(f"cannot read {self.path}: {_words(self.path, error)}. {AGAIN}") from error
        if len(samples_TC) < stop - start:
            raise DataError(f"cannot read {self.path}: {_cut_short(stop)}. {AGAIN}")
        finite_T = np.isfinite(samples_TC).all(axis=1)
        if not finite_T.all():
            position = start + int(np.argmin(finite_T))
            raise DataError(f"{self.path} holds NaN or an infinity at sample {position:,}. {AGAIN}")
        return np.asarray(samples_TC, dtype=np.float32)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> None:
        try:
            self._file = _Stream(os.fsencode(self.path))
        except soundfile.SoundFileError as error:
            raise DataError(f"cannot read {self.path}: {_words(self.path, error)}. {AGAIN}") from error
        self._begin, self._blocks = 0, deque[Floats]()  # of what was decoded, the end, which the next slice overlaps

    def _decode_up_to(self, start: int, stop: int) -> Floats:
        """Decode from the beginning in fixed blocks, so that a slice never depends on where it begins."""
        if start < self._begin:
            self.close()
            self._open()
        while self._begin + BLOCK * len(self._blocks) < stop:
            self._blocks.append(self._file.read(BLOCK, dtype="float32", always_2d=True))
            while self._blocks and self._begin + BLOCK <= start:
                self._blocks.popleft()
                self._begin += BLOCK
        return np.concatenate(self._blocks)[start - self._begin : stop - self._begin]


def read_samples(path: str, start: int, stop: int) -> Floats:
    """Open a file and read what `Reader.read` gives.

    Raises:
        DataError: the file cannot be read so far, or holds NaN or infinite samples.
    """
    with closing(Reader(path)) as reader:
        return reader.read(start, stop)


def _ends_where_it_says(file: soundfile.SoundFile) -> bool:
    try:
        file.seek(file.frames - 1)
        return len(file.read(1, dtype="float32")) == 1
    except soundfile.SoundFileError:
        return False


def _is_cut(log: str) -> bool:
    """Say whether bytes are missing at the end of a file, from what libsndfile noted when it was opened."""
    sizes = CUT_WAV.search(log)
    if sizes is not None:
        return int(sizes[2]) + 1 < int(sizes[1]) < STREAMED  # one byte too many is an odd size's padding, counted
    return CUT_OGG.search(log) is not None


def _cut_short(samples: int) -> str:
    return f"it ends before sample {samples:,}, which its header promises: the file is cut short or damaged"


def _words(path: str, error: Exception) -> str:
    """Return the decoder's words, or the operating system's, of which libsndfile only says `System error`."""
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as problem:
        return problem.strerror or str(problem)
    words = getattr(error, "error_string", None) or str(error)
    if words.startswith("File does not exist"):  # of what is called .mp3 and is none; it was opened just now
        words = "it is no audio file of a known kind"
    return f"the decoder says: {words.rstrip('.')}"
