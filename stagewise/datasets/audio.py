"""Samples of audio files: read by the slice, resampled on the way, examined by several threads.

Legend: T samples, L weights of the filter, R results of one period, P periods of one block, C channels.
"""

from __future__ import annotations

import math
import os
import stat
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from stagewise import durable
from stagewise.arrays import Floats, Ints
from stagewise.datasets.bad_items import AGAIN, Policy, check_policy, judge, looked_at, probe_all
from stagewise.datasets.base import BadItem
from stagewise.datasets.containers import Flaw, Mending, examine
from stagewise.datasets.quiet_decoders import quietly
from stagewise.errors import ConfigError, DataError
from stagewise.libraries import load

# Resample a slice of a long signal so that it equals the same slice of the whole signal, bit for bit.
#
# The filter is torchaudio's. Results are computed in blocks of one size on a fixed grid, whatever the slice: a
# convolution over pieces of other sizes would change last bits.

Read = Callable[[int, int], Floats]  # start, stop -> samples (T,)

FILTER_WIDTH = 6  # zero crossings and roll-off of torchaudio's windowed sinc, its defaults
ROLLOFF = 0.99
BLOCK = 4096  # outputs computed at a time, at least
MAX_KERNEL = 2**22  # weights; two rates without a common factor would need gigabytes


def can_resample(source_rate: int, rate: int) -> bool:
    """Say whether the filter between two rates has a reasonable size."""
    old, new = _reduced(source_rate, rate)
    width = math.ceil(FILTER_WIDTH * old / (min(old, new) * ROLLOFF))
    return new * (2 * width + old) <= MAX_KERNEL


def resample(read: Read, samples: int, source_rate: int, rate: int, start: int, stop: int) -> Floats:
    """Return samples start to stop of the resampled signal, float32 (stop - start,).

    Args:
        read: reads a slice of the source.
        samples: length of the source.
        source_rate: samples per second of the source.
        rate: samples per second of the result.
        start: first sample of the slice, at `rate`.
        stop: the sample after the last one, at `rate`.
    """
    old, new = _reduced(source_rate, rate)  # `old` samples become `new` samples in every period
    kernel_LR, width = _filter(old, new)
    periods = -(-BLOCK // new)
    first, last = start // (periods * new), -(-stop // (periods * new))
    source_start = first * periods * old - width
    source_stop = last * periods * old + width
    inside = slice(max(source_start, 0), min(source_stop, samples))
    padded_T = np.zeros(source_stop - source_start, dtype=np.float32)
    padded_T[inside.start - source_start : inside.stop - source_start] = read(inside.start, inside.stop)

    blocks = []
    for block in range(last - first):
        begin = block * periods * old
        around_T = padded_T[begin : begin + periods * old + 2 * width]
        windows_PL = np.lib.stride_tricks.sliding_window_view(around_T, len(kernel_LR))[::old]
        blocks.append((windows_PL @ kernel_LR).reshape(-1))
    results_T = np.concatenate(blocks)
    offset = start - first * periods * new
    return results_T[offset : offset + stop - start]


@lru_cache(maxsize=16)
def _filter(old: int, new: int) -> tuple[Floats, int]:
    """Return torchaudio's windowed-sinc weights (2 width + old, new) and their width, in samples."""
    import torch

    transforms = load("torchaudio.transforms")

    # Left to itself, torchaudio rounds the phases of the filter to float32: errors of up to 1e-5.
    transform = transforms.Resample(old, new, lowpass_filter_width=FILTER_WIDTH, rolloff=ROLLOFF, dtype=torch.float64)
    return transform.kernel[:, 0].T.contiguous().float().numpy(), int(transform.width)


def _reduced(source_rate: int, rate: int) -> tuple[int, int]:
    common = math.gcd(source_rate, rate)
    return source_rate // common, rate // common


# Look at audio files and read slices of them through soundfile, sample by sample exact.

# Seeking is exact for these encodings (FLAC and plain WAV). In OGG and MP3 it is not, by up to 0.05
# (measured): those are decoded from their beginning, in blocks.
SEEKS_EXACTLY = {"PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}
READ_BLOCK = 65536
UNKNOWN_LENGTH = 2**62
DROPPED = 4 * 1152  # samples at both ends of an MP3 that are its encoder's, more than any says
# What is read, by how its file's name ends; what a file is, its bytes say.
SUFFIXES = (
    *(".flac", ".wav", ".wave", ".w64", ".rf64", ".aif", ".aiff", ".aifc", ".caf", ".au"),
    *(".ogg", ".oga", ".opus", ".mp3"),
)


@dataclass(frozen=True)
class Header:
    """What a file says of itself: samples per channel, samples per second, channels, bytes on disk."""

    samples: int
    rate: int
    channels: int
    size: int


class _Mended:
    """The bytes of a file with another beginning."""

    def __init__(self, path: str, mending: Mending) -> None:
        self._file, self._mending, self._at = Path(path).open("rb"), mending, 0  # noqa: SIM115
        self._size = Path(path).stat().st_size - mending.skip + len(mending.head)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + {0: 0, 1: self._at, 2: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, count: int) -> bytes:
        head = self._mending.head
        content = head[self._at : self._at + count]
        if len(content) < count:
            self._file.seek(self._mending.skip + self._at + len(content) - len(head))
            content += self._file.read(count - len(content))
        self._at += len(content)
        return content

    def close(self) -> None:
        self._file.close()


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """A file, as it is or mended.

    Forwards, it is only read: soundfile seeks after each read of others, which spoils an MP3.
    """

    def __init__(self, path: str, mending: Mending | None, forwards: bool) -> None:
        self._forwards = forwards
        self._source: Any = os.fsencode(path) if mending is None else _Mended(path, mending)
        with quietly():
            super().__init__(self._source)

    def seekable(self) -> bool:
        return not self._forwards and super().seekable()

    def read(self, *arguments: Any, **options: Any) -> Any:
        with quietly(self.format == "MP3"):
            return super().read(*arguments, **options)

    def seek(self, *arguments: Any) -> Any:
        with quietly(self.format == "MP3"):
            return super().seek(*arguments)

    def close(self) -> None:
        super().close()
        if isinstance(self._source, _Mended):
            self._source.close()


def probe(path: str) -> Header | str:
    """Look at a file's sizes, pages or frames and decode its last sample; return what is wrong if something is.

    The last sample costs a quarter of a millisecond and finds files that end before their header says. What is
    damaged inside, or is not a number there, is found when it is read.
    """
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):
            return "it is not a regular file"  # opening a pipe would wait for ever
        if status.st_size == 0:
            return "the file is empty"
        counted = mending.samples if (mending := examine(path)) else None
        with _opened(path, forwards=False) as file:
            header = Header(file.frames, file.samplerate, file.channels, status.st_size)
            if header.samples <= 0:
                return "the file holds no samples"
            if header.samples >= UNKNOWN_LENGTH:
                return "its header does not say how long it is: encode it again"
            if counted is not None and header.samples < counted - DROPPED:
                return f"a decoder drops {counted - header.samples:,} of its {counted:,} samples: its header is damaged"
            if file.seekable() and not _ends_where_it_says(file):
                return _cut_short(header.samples)
            return header
    except Flaw as flaw:
        return str(flaw)
    except OSError as error:
        return error.strerror or str(error)
    except soundfile.SoundFileError as error:
        return _words(path, error)


def _examined(path: str) -> Mending | None:
    """Return what `examine` does, which counts all frames of an MP3: once a file, not at every slice that is read."""
    return _counted(path, durable.file_state(Path(path)))


@lru_cache(maxsize=2**14)
def _counted(path: str, _: tuple[int, ...]) -> Mending | None:
    return examine(path)


def _opened(path: str, forwards: bool) -> _Stream:
    """Open a file, mended where the decoder would not read all of it."""
    file = _Stream(path, None, forwards)
    if file.format == "MP3" or file.frames == 0:
        mending = None
        with suppress(Flaw, OSError):  # of what was found good when it was probed
            mending = _examined(path)
        if mending is not None and mending.head and mending.samples != file.frames:
            file.close()
            return _Stream(path, mending, forwards)
    return file


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

    @property
    def samples(self) -> int:
        """How many samples per channel there are."""
        return int(self._file.frames)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _open(self) -> None:
        try:
            self._file = _opened(self.path, forwards=True)
        except soundfile.SoundFileError as error:
            raise DataError(f"cannot read {self.path}: {_words(self.path, error)}. {AGAIN}") from error
        self._begin, self._blocks = 0, deque[Floats]()  # of what was decoded, the end, which the next slice overlaps

    def _decode_up_to(self, start: int, stop: int) -> Floats:
        """Decode from the beginning in fixed blocks, so that a slice never depends on where it begins."""
        if start < self._begin:
            self.close()
            self._open()
        while self._begin + READ_BLOCK * len(self._blocks) < stop:
            self._blocks.append(self._file.read(READ_BLOCK, dtype="float32", always_2d=True))
            while self._blocks and self._begin + READ_BLOCK <= start:
                self._blocks.popleft()
                self._begin += READ_BLOCK
        return np.concatenate(self._blocks)[start - self._begin : stop - self._begin]


def read_samples(path: str, start: int, stop: int) -> Floats:
    """Open a file and read what `Reader.read` gives.

    Raises:
        DataError: the file cannot be read so far, or holds NaN or infinite samples.
    """
    with closing(Reader(path)) as reader:
        return reader.read(start, stop)


def is_silent(path: str) -> bool:
    """Say whether all samples of a file that was found good are the same, its channels averaged.

    It is read only as far as they are. Channels in opposite phase leave nothing of each other.
    """
    with suppress(DataError, soundfile.SoundFileError), closing(Reader(path)) as reader:
        first, samples = reader.read(0, 1)[0].mean(), reader.samples
        for start in range(0, samples, READ_BLOCK):
            if (reader.read(start, min(start + READ_BLOCK, samples)).mean(1) != first).any():
                return False
        return True
    return False  # it is damaged, which is said of it when it is read


def _ends_where_it_says(file: soundfile.SoundFile) -> bool:
    try:
        file.seek(file.frames - 1)
        return len(file.read(1, dtype="float32")) == 1
    except (soundfile.SoundFileError, ValueError):  # the latter where the decoder is led past the end
        return False


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
    return f"the decoder says: {words.rstrip('.')}"


# Look at every audio file before training starts, and decide what happens to the bad ones.


@dataclass(frozen=True)
class Rules:
    """What is expected of every file, and how samples become numbers.

    Attributes:
        sample_rate: samples per second of every item.
        bad_items: whether a bad file is an error, or how many are left out.
        resample: convert files of another rate.
        mono: average the channels of files that have several.
        mean: subtracted from every sample.
        std: divides every sample.
    """

    sample_rate: int
    bad_items: Policy
    resample: bool
    mono: bool
    mean: float
    std: float

    def __post_init__(self) -> None:
        check_policy(self.bad_items)
        if type(self.sample_rate) is not int or self.sample_rate < 1:
            raise ConfigError(f"data.sample_rate is {self.sample_rate!r}: set it to a whole number above 0, as 16000.")
        for name in ("resample", "mono"):
            if type(value := getattr(self, name)) is not bool:
                raise ConfigError(f"data.{name} is {value!r}: set it to true or false.")
        if not self.std > 0:
            raise ConfigError(f"data.std is {self.std}: set it to a number above 0.")

    def problem(self, header: Header) -> str | None:
        """Say why a readable file cannot be used."""
        if header.channels > 1 and not self.mono:
            return f"{header.channels} channels where 1 is expected: set data.mono = true to average them"
        if header.rate == self.sample_rate:
            return None
        if not self.resample:
            return (
                f"{header.rate:,} Hz where {self.sample_rate:,} Hz is expected: set data.resample = true to convert it"
            )
        if not can_resample(header.rate, self.sample_rate):
            return f"{header.rate:,} Hz cannot be converted to {self.sample_rate:,} Hz in reasonable memory"
        return None


@dataclass(frozen=True)
class Scan:
    """The usable files: their places in the list that was scanned, and per file three int64 columns."""

    items: Ints
    samples: Ints
    rates: Ints
    sizes: Ints
    bad: list[BadItem]

    def lengths(self, sample_rate: int) -> Ints:
        """Return the files' lengths after resampling, rounded up as torchaudio does."""
        return -(-self.samples * sample_rate // self.rates)


def scan(keys: Sequence[str], paths: Sequence[str], rules: Rules, refused: Sequence[BadItem]) -> Scan:
    """Probe every file and apply the rules.

    Args:
        keys: the items' keys.
        paths: the items' files.
        rules: what is expected of them.
        refused: files whose very names cannot be used.

    Raises:
        DataError: there are bad files and the rules do not let them be skipped.
    """
    bad = list(refused)
    good: list[tuple[int, int, int, int]] = []
    for item, header in enumerate(probe_all(probe, paths, looked_at("audio", len(paths)))):
        problem = header if isinstance(header, str) else rules.problem(header)
        if problem is not None:
            bad.append(BadItem(keys[item], paths[item], problem))
        elif isinstance(header, Header):
            good.append((item, header.samples, header.rate, header.size))
    judge(bad, len(paths) + len(refused), "audio", rules.bad_items)
    columns = np.array(good, dtype=np.int64).reshape(-1, 4).T
    return Scan(columns[0], columns[1], columns[2], columns[3], bad)
