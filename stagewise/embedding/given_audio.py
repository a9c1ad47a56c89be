"""Audio files that somebody names, as the items of a data set: converted to what a run was trained on.

Shape suffixes: N items.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from stagewise.datasets.audio import Header, probe
from stagewise.datasets.audio_files import AudioFiles
from stagewise.datasets.audio_folder import SUFFIXES
from stagewise.datasets.scan import Rules
from stagewise.embedding.given_files import Given


class GivenAudio(AudioFiles):
    """Audio files of any length, rate and number of channels.

    Args:
        paths: files, and folders of them.
        facts: `input` of the run's lock: sample rate and standardisation.
        note: told what was converted.

    Raises:
        ConfigError: there are no paths.
        DataError: files cannot be used.
    """

    def __init__(self, paths: Sequence[str | Path], facts: Mapping[str, Any], note: Callable[[str], None]) -> None:
        given = Given.of(paths, SUFFIXES, "audio")
        rules = Rules(facts["sample_rate"], "error", resample=True, mono=True, mean=facts["mean"], std=facts["std"])
        headers = given.probed(probe, rules.problem)
        super().__init__(Path(), given.keys, lambda _: None, lambda _, __: {}, rules, None, 0.0)
        for text in _conversions(headers, rules.sample_rate):
            note(text)

    def _path(self, key: str) -> str:
        return key


def _conversions(headers: Sequence[Header], rate: int) -> list[str]:
    rates = Counter(header.rate for header in headers if header.rate != rate)
    texts = [f"{count:,} files of {other:,} Hz are converted to {rate:,} Hz." for other, count in sorted(rates.items())]
    if several := sum(header.channels > 1 for header in headers):
        texts.append(f"the channels of {several:,} files that have several are averaged.")
    return texts
