"""LibriSpeech and everything in its folder layout: SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac, or .wav [1].

[1] Panayotov et al. 2015, "LibriSpeech: an ASR corpus based on public domain audio books".
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stagewise.arrays import Ints
from stagewise.datasets.audio import SUFFIXES, Rules
from stagewise.datasets.audio_files import MEAN, STD, AudioFiles, Labels
from stagewise.datasets.bad_items import Policy
from stagewise.datasets.base import Expected
from stagewise.datasets.labels import read_alignment
from stagewise.datasets.names import Names
from stagewise.datasets.tables import SUFFIXES as SUFFIXES_OF_TABLES
from stagewise.datasets.tables import read_labels, read_table
from stagewise.errors import ConfigError, DataError
from stagewise.libraries import load
from stagewise.text import counted

SAMPLE_RATE = 16_000

# Utterances, hours and speakers of every subset, from the paper's Table 1 and the corpus itself.
SUBSETS = {
    "train-clean-100": (28_539, 100.59, 251),
    "train-clean-360": (104_014, 363.61, 921),
    "train-other-500": (148_688, 496.86, 1_166),
    "dev-clean": (2_703, 5.39, 40),
    "dev-other": (2_864, 5.12, 33),
    "test-clean": (2_620, 5.40, 40),
    "test-other": (2_939, 5.34, 33),
}
DEFAULT = "train-clean-100"
ENDINGS = "|".join(map(re.escape, SUFFIXES))
# A file's path, wherever the speakers lie.
UTTERANCE = re.compile(rf"(?:(.*)/)?([0-9]+)/([0-9]+)/\2-\3-[0-9]+(?:{ENDINGS})")
OWN = {"speaker": "`speaker` comes from the folders", "phones": "`phones` comes from data.phones"}
PHONES = 41  # classes of the published label file of train-clean-100, Löwe et al. 2019, section 4.2

# For whoever asked for the download, in a pipeline file or with `data fetch`.
ADVICE = (
    "was it interrupted while it was unpacked? Delete this folder and type the same command again to unpack the "
    "archive again, or name another root."
)


class LibriSpeech(AudioFiles):
    """Read English with the label `speaker`, and with `phones` where a file of them is given.

    Args:
        root: the folder that holds the subset, `LibriSpeech/subset`, or the speakers' folders themselves.
        subset: the subset's name, train-clean-100 when left out; of no use if `root` holds the speakers' folders.
        splits: `{train = "…", test = "…"}`, files of one key a line, as `1688-142285-0000`; without them
            a part of every speaker's utterances is for testing.
        phones: a file of `key class class …` lines, one class per 160 samples.
        labels: further ones by name: CSV files with the columns `file`, a key or a path below the root, and the name;
            or `folder`, as a speaker's, and the name.
        bad_items: "error", or "skip" to leave unreadable files out, up to 1 %; 0.05: up to 5 %; 10: up to ten.
        download: download the subset into `root` if it is not there.
        test_fraction: fraction for testing where there are no `splits`.
        mean: subtracted from every sample in [-1, 1].
        std: divides every sample.
        resample: convert files that are not 16 kHz.
        mono: average the channels of files that have several.

    Raises:
        ConfigError: an argument is out of range.
        DataError: the subset is missing or incomplete, files are bad, or a list or label file does not fit.
    """

    label_sources = (
        'data.phones = "FILE" gives `phones`, the folder of a file gives `speaker`, and data.labels = '
        '{ NAME = "TABLE.csv" } any other'
    )

    def __init__(
        self,
        root: str,
        subset: str | None = None,
        splits: Mapping[str, str] | None = None,
        phones: str | None = None,
        bad_items: Policy = "error",
        download: bool = False,
        test_fraction: float = 0.2,
        mean: float = MEAN,
        std: float = STD,
        resample: bool = False,
        mono: bool = False,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        sources = _sources(labels)
        folder, found = _locate(Path(root), subset or DEFAULT, download)
        if subset is not None and folder == Path(root) and folder.resolve().name != subset:
            found.notes.append(f"data.subset, {subset}, is not looked for: data.root holds the speakers themselves")
        keys = sorted(found.suffixes)
        self._suffixes = {key: suffix for key, suffix in found.suffixes.items() if suffix != ".flac"}

        def label(names: Names, lengths: Ints) -> Labels:
            tables: Labels = {"speaker": read_labels(folder, "speaker", "folder", names)}
            if phones is not None:
                tables["phones"] = read_alignment(Path(phones), names, lengths)
            return tables | {name: read_table(folder, name, path, names) for name, path in sources.items()}

        rules = Rules(SAMPLE_RATE, bad_items, resample, mono, mean, std)
        paths = [below(key, found.suffixes[key]) for key in keys]
        super().__init__(folder, keys, Names(paths), label, rules, splits, test_fraction)
        self.notes = [*found.notes, *self.notes]

    @classmethod
    def is_there(cls, **arguments: Any) -> bool:
        """Say whether there is a folder that holds, or should hold, the utterances."""
        try:
            return Path(arguments.get("root", "")).is_dir()
        except PermissionError:  # to look for it is for those who then say what is wrong
            return True

    @classmethod
    def expected(cls, **arguments: Any) -> Expected | None:
        """Return the published size of the subset that these arguments name."""
        subset = arguments.get("subset")
        if subset not in SUBSETS:
            return None
        items, hours, speakers = SUBSETS[subset]
        classes = {"speaker": speakers} | ({"phones": PHONES} if arguments.get("phones") else {})
        samples = round(hours * 3600 * SAMPLE_RATE)
        return Expected(items, samples, f"published size of LibriSpeech {subset}", classes=classes)

    def _path(self, key: str) -> str:
        return f"{self.root}/{below(key, self._suffixes.get(key, '.flac'))}"


def below(key: str, suffix: str = ".flac") -> str:
    """Return the path of an utterance below the folder of the speakers."""
    speaker, chapter, _ = key.split("-")
    return f"{speaker}/{chapter}/{key}{suffix}"


@dataclass(frozen=True)
class _Utterances:
    """What lies below the folder of the speakers.

    Attributes:
        suffixes: of the file of every utterance, by its key.
        notes: what is left out, in words.
    """

    suffixes: dict[str, str]
    notes: list[str]


def _sources(labels: Mapping[str, str] | None) -> dict[str, Path]:
    if labels is not None and not isinstance(labels, Mapping):
        raise ConfigError('data.labels must be a table, as labels = { sex = "sex.csv" }.')
    for name, source in (labels or {}).items():
        if name in OWN:
            raise ConfigError(f"data.labels.{name}: {OWN[name]}; give the label, and its column, another name.")
        if not isinstance(source, str) or not source.lower().endswith(SUFFIXES_OF_TABLES):
            raise ConfigError(f"data.labels.{name} is {source!r}: set it to the path of a .csv or .tsv file.")
    return {name: Path(source) for name, source in (labels or {}).items()}


def _locate(root: Path, subset: str, download: bool) -> tuple[Path, _Utterances]:
    """Find the folder that holds the speakers' folders, and the utterances in it; download it if asked."""
    if download and subset not in SUBSETS:
        raise ConfigError(f"data.subset is {subset!r}: to download, set it to one of {', '.join(SUBSETS)}.")
    folders = [root / subset, root / "LibriSpeech" / subset, root]
    found = _first_with_utterances(folders)
    if found is None and download:
        _download(root, subset)
        found = _first_with_utterances(folders)
        if found is None:
            raise DataError(f"{folders[1]} holds no utterances: {ADVICE}")
    if found is None:
        if not root.exists() and not root.is_absolute():
            raise DataError(
                f"{root} is not there (paths start where you type, in {Path.cwd()}): type --set data.root=FOLDER, or "
                "--set data.download=true to download LibriSpeech."
            )
        raise DataError(
            f"no utterances in {', '.join(str(folder) for folder in folders)} "
            "(looked for SPEAKER/CHAPTER/SPEAKER-CHAPTER-UTTERANCE.flac): type --set data.root=FOLDER, "
            "or --set data.download=true to download LibriSpeech, "
            'or set data.target = "audio-folder" for audio in other folders.'
        )
    folder, utterances = found
    there = len(utterances.suffixes)
    if download and there < SUBSETS[subset][0]:
        raise DataError(
            f"{folder} holds {there:,} of the {SUBSETS[subset][0]:,} utterances of {subset}: {ADVICE} What is "
            "there can be used without a download."
        )
    return folder, utterances


def _first_with_utterances(folders: Sequence[Path]) -> tuple[Path, _Utterances] | None:
    for folder in folders:
        try:
            found = _utterances(folder)
        except OSError as error:
            raise DataError(
                f"cannot read {error.filename or folder} ({error.strerror}): check its permissions."
            ) from error
        if found.suffixes:
            return folder, found
    return None


def _elsewhere(root: Path, folder: Path) -> list[str]:
    """Return the audio files in a folder that are in none of its numbered folders."""
    found = []
    for within, folders, names in os.walk(folder):
        if Path(within) == folder:
            folders[:] = [name for name in folders if not name.isdecimal()]
        folders[:] = [name for name in folders if not name.startswith(".")]
        audio = (name for name in names if name.lower().endswith(SUFFIXES) and not name.startswith("."))
        found += [Path(within, name).relative_to(root).as_posix() for name in audio]
    return found


def _utterances(folder: Path) -> _Utterances:
    suffixes: dict[str, str] = {}
    twice: list[str] = []
    others: list[str] = []
    for speaker in _numbered(folder):
        others += _elsewhere(folder, speaker)
        for chapter in _numbered(speaker):
            utterance = re.compile(rf"({speaker.name}-{chapter.name}-[0-9]+)({ENDINGS})")
            for name in os.listdir(chapter):
                match = utterance.fullmatch(name)
                if match is None:
                    if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                        others.append(f"{speaker.name}/{chapter.name}/{name}")
                    continue
                key, suffix = match.groups()
                if key in suffixes:
                    twice.append(key)
                    suffix = min(suffix, suffixes[key], key=SUFFIXES.index)
                suffixes[key] = suffix
    if suffixes:
        others += _elsewhere(folder, folder)
    notes = []
    if twice:
        key = min(twice)
        what = f"{counted(len(twice), 'file')}, such as those of {key} beside {suffixes[key]}"
        notes.append(f"left out, since another file of the same name is taken: {what}")
    if others:
        what = counted(len(others), "audio file")
        notes.append(f"left out, as no utterance is called so: {what}, such as {min(others)}")
    return _Utterances(suffixes, notes)


def _numbered(folder: Path) -> list[Path]:
    """Return the sub-folders whose names are numbers, as those of speakers and chapters are."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if re.fullmatch("[0-9]+", path.name) and path.is_dir()]


def _download(root: Path, subset: str) -> None:
    datasets = load("torchaudio.datasets")

    try:
        root.mkdir(parents=True, exist_ok=True)
        datasets.LIBRISPEECH(root, url=subset, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"cannot download LibriSpeech {subset} to {root} ({error}): type the same command again, or "
            "download it in another way and name the folder that holds it as the root."
        ) from error
