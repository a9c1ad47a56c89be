"""Any folder of audio files, however nested, with labels from folder names or tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from stagewise.arrays import Ints
from stagewise.datasets.audio import SUFFIXES, Rules
from stagewise.datasets.audio_files import MEAN, STD, AudioFiles, Labels, find_twins, words_of_twins
from stagewise.datasets.bad_items import Policy
from stagewise.datasets.files import find_files
from stagewise.datasets.labels import TEST_FRACTION, read_alignment, words_of_fraction
from stagewise.datasets.names import Names
from stagewise.datasets.tables import read_labels
from stagewise.errors import ConfigError


class AudioFolder(AudioFiles):
    """FLAC, WAV, AIFF, CAF, AU, OGG and MP3 files anywhere below a folder; a key is a file's path in it, with slashes.

    Names that begin with a dot are left out, and of a recording that is there twice, as `a.flac` and `a.wav`, the
    second one. Slices of MP3 and OGG are decoded from the beginning, so FLAC is faster for long files.

    Args:
        root: the folder.
        labels: where each label comes from: "folder" (the first folder below the root), "folder:2" (the
            second), a pattern of the files' names, "{digit}_{speaker}_*.wav", or a table, .csv or .tsv, with the
            columns `file`, or `folder`, and the label's name.
        splits: `{train = "…", test = "…"}`, files of one key a line, with or without the suffix; without them
            a part of every class of the first label is for testing.
        test_fraction: fraction for testing where there are no `splits`.
        sample_rate: samples per second of every item.
        bad_items: "error", or "skip" to leave unreadable files out, up to 1 %; 0.05: up to 5 %; 10: up to ten.
        resample: convert files of another rate.
        mono: average the channels of files that have several.
        mean: subtracted from every sample in [-1, 1].
        std: divides every sample.
        phones: a file of `key class class …` lines, one class per 160 samples at 16 kHz, for the label `phones`.

    Raises:
        ConfigError: an argument is out of range.
        DataError: there are no files, files are bad, or a list or label file does not fit.
    """

    label_sources = (
        'data.labels = { NAME = "folder" } takes the folder of a file, { NAME = "{NAME}_*" } its name, '
        '{ NAME = "TABLE.csv" } a table, and '
        'data.phones = "FILE" gives `phones`'
    )

    def __init__(
        self,
        root: str,
        labels: Mapping[str, str] | None = None,
        splits: Mapping[str, str] | None = None,
        test_fraction: float = TEST_FRACTION,
        sample_rate: int = 16_000,
        bad_items: Policy = "error",
        resample: bool = False,
        mono: bool = False,
        mean: float = MEAN,
        std: float = STD,
        phones: str | None = None,
    ) -> None:
        if labels is not None and not isinstance(labels, Mapping):
            raise ConfigError('data.labels must be a table, as labels = { speaker = "folder" }.')
        sources = dict(labels or {})
        folder = Path(root)
        files = find_files(folder, SUFFIXES, "audio", "data.root")
        twins = find_twins(folder, files.names)
        keys = [name for name in files.names if name not in twins]

        if phones is not None and sample_rate != 16_000:
            raise ConfigError(f"data.phones is for data.sample_rate = 16000, not {sample_rate}: leave one of them out.")

        def label(names: Names, lengths: Ints) -> Labels:
            tables: Labels = {name: read_labels(folder, name, source, names) for name, source in sources.items()}
            return tables if phones is None else tables | {"phones": read_alignment(Path(phones), names, lengths)}

        rules = Rules(sample_rate, bad_items, resample, mono, mean, std)
        super().__init__(folder, keys, Names(keys, twins), label, rules, splits, test_fraction, files.refused)
        fraction = words_of_fraction(test_fraction, None if splits is None else "data.splits")
        self.notes = [*fraction, *files.notes(), *words_of_twins(twins), *self.notes]

    def _path(self, key: str) -> str:
        return f"{self.root}/{key}"
