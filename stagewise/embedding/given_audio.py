"""Audio files that somebody names, as the items of a data set: converted to what a run was trained on.

Shape suffixes: N items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from stagewise.datasets.audio import BLOCK, SUFFIXES, Header, Reader, probe
from stagewise.datasets.audio_files import AudioFiles
from stagewise.datasets.bad_items import remembering
from stagewise.datasets.base import Floats
from stagewise.datasets.names import Names
from stagewise.datasets.scan import Rules
from stagewise.embedding.given_files import Given, Report, to_the_end
from stagewise.show import counted


class GivenAudio(AudioFiles):
    """Audio files of any length, rate and number of channels.

    The file that was read last stays open: to decode an OGG from its beginning for every piece would take hours.

    Args:
        paths: files, and folders of them.
        facts: `input` of the run's lock: sample rate and standardisation.
        short: says why so many samples at that rate are too few.
        report: told how many files were looked at, what is left out, and what is converted.
        skip: read every file to its end, and leave out those that cannot be used.

    Raises:
        ConfigError: there are no paths.
        DataError: files cannot be used.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        facts: Mapping[str, Any],
        short: Callable[[int], str | None],
        report: Report,
        skip: bool,
    ) -> None:
        given, rate = Given.of(paths, SUFFIXES, "audio"), facts["sample_rate"]
        rules = Rules(rate, "error", resample=True, mono=True, mean=facts["mean"], std=facts["std"])

        def problem(header: Header) -> str | None:
            return rules.problem(header) or short(-(-header.samples * rate // header.rate))

        with remembering():
            headers, bad = given.probed(to_the_end(probe, _read) if skip else probe, problem, report, skip)
            super().__init__(Path(), list(headers), Names(list(headers)), lambda *_: {}, rules, None, 0.0)
        self.bad = bad
        self._open: dict[str, Reader] = {}
        for text in _conversions(headers.values(), rate):
            report("note", text=text)

    def _path(self, key: str) -> str:
        return key

    def _samples(self, path: str, start: int, stop: int) -> Floats:
        reader = self._open.pop(path, None) or Reader(path)  # no other thread has it now, and what fails is not kept
        samples_TC = reader.read(start, stop)
        self._open.clear()
        self._open[path] = reader
        return samples_TC


def _read(path: str, header: Header) -> None:
    with closing(Reader(path)) as reader:
        for start in range(0, header.samples, BLOCK):
            reader.read(start, min(start + BLOCK, header.samples))


def _conversions(headers: Collection[Header], rate: int) -> list[str]:
    rates = Counter(header.rate for header in headers if header.rate != rate)
    texts = [
        f"{counted(count, 'file is', 'files are')} converted from {other:,} to {rate:,} Hz."
        for other, count in sorted(rates.items())
    ]
    if several := sum(header.channels > 1 for header in headers):
        texts.append(f"the channels of {counted(several, 'file')} with several are averaged.")
    return texts
