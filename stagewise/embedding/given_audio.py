"""Audio files that somebody names, as the items of a data set: converted to what a run was trained on.

Shape suffixes: N items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stagewise.datasets.audio import Header, Reader, probe
from stagewise.datasets.audio_files import AudioFiles
from stagewise.datasets.audio_folder import SUFFIXES
from stagewise.datasets.bad_items import remembering
from stagewise.datasets.base import Floats
from stagewise.datasets.scan import Rules
from stagewise.embedding.given_files import Given, Report
from stagewise.show import counted


class GivenAudio(AudioFiles):
    """Audio files of any length, rate and number of channels.

    The file that was read last stays open: to decode an OGG from its beginning for every piece would take hours.

    Args:
        paths: files, and folders of them.
        facts: `input` of the run's lock: sample rate and standardisation.
        report: told how many files were looked at, and what is converted.

    Raises:
        ConfigError: there are no paths.
        DataError: files cannot be used.
    """

    def __init__(self, paths: Sequence[str | Path], facts: Mapping[str, Any], report: Report) -> None:
        given = Given.of(paths, SUFFIXES, "audio")
        rules = Rules(facts["sample_rate"], "error", resample=True, mono=True, mean=facts["mean"], std=facts["std"])
        with remembering():
            headers = given.probed(probe, rules.problem, report)
            super().__init__(Path(), given.keys, lambda _: None, lambda _, __: {}, rules, None, 0.0)
        self._open: dict[str, Reader] = {}
        for text in _conversions(headers, rules.sample_rate):
            report("note", text=text)

    def _path(self, key: str) -> str:
        return key

    def _samples(self, path: str, start: int, stop: int) -> Floats:
        reader = self._open.pop(path, None) or Reader(path)  # no other thread has it now, and what fails is not kept
        samples_TC = reader.read(start, stop)
        self._open.clear()
        self._open[path] = reader
        return samples_TC


def _conversions(headers: Sequence[Header], rate: int) -> list[str]:
    rates = Counter(header.rate for header in headers if header.rate != rate)
    texts = [
        f"{counted(count, 'file is', 'files are')} converted from {other:,} to {rate:,} Hz."
        for other, count in sorted(rates.items())
    ]
    if several := sum(header.channels > 1 for header in headers):
        texts.append(f"the channels of {counted(several, 'file')} with several are averaged.")
    return texts
