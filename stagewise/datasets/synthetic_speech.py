"""A spoken corpus that needs no download: our sentences, said by espeak-ng, with exact phone labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stagewise.datasets.bad_items import Policy
from stagewise.datasets.base import Dataset, Expected
from stagewise.datasets.corpus import ALIGNMENT, MARKER, NAMES, Request, Utterance, write_corpus
from stagewise.datasets.labels import FrameTable
from stagewise.datasets.librispeech import LibriSpeech
from stagewise.datasets.names import read_lines
from stagewise.durable import read_json
from stagewise.errors import ConfigError, IntegrityError

# Sentences for synthetic speech, made from a small grammar: the same ones for the same seed, for ever.

_PEOPLE = (
    "the old sailor|a young doctor|my neighbour|the baker|her cousin|a tired farmer|the teacher|our guide|"
    "the quiet boy|a clever judge|the shepherd|his uncle|the painter|a thirsty horse|the eldest|their nurse"
)
_VERBS = (
    "carried|found|measured|bought|painted|forgot|opened|washed|followed|noticed|pushed|borrowed|hid|chose|"
    "showed|threw away"
)
_THINGS = (
    "a copper kettle|the heavy box|three yellow apples|an empty jar|the wooden bridge|a bunch of keys|"
    "the last chapter|a pair of boots|the church bell|some warm bread|a thick blanket|the garden fence|"
    "four small stones|an ancient map|the broken wheel|a jug of water"
)
_PLACES = (
    "near the harbour|behind the school|under the oak tree|across the valley|by the fireplace|in the market|"
    "on the northern road|beside the river|at the edge of the wood|inside the tower|along the beach|"
    "above the village"
)
_TIMES = (
    "before sunrise|on Thursday|last winter|after the storm|for an hour|every evening|without a word|"
    "as usual|with great pleasure|in the afternoon|during lunch|just in time"
)
_SLOTS = [choices.split("|") for choices in (_PEOPLE, _VERBS, _THINGS, _PLACES, _TIMES)]


def sentence(seed: int, voice: int, number: int) -> str:
    """Return one sentence, a pure function of its arguments: who did what to which thing, where, and when."""
    words = []
    for slot, choices in enumerate(_SLOTS):
        # A hash rather than `random`, whose choices may change with the version of Python.
        digest = hashlib.sha256(f"{seed} {voice} {number} {slot}".encode()).digest()
        words.append(choices[int.from_bytes(digest[:8], "big") % len(choices)])
    return f"{' '.join(words[:-1])}, {words[-1]}.".capitalize()


# espeak-ng's name of the voice, words per minute, pitch. Variants with breath (f2, f5, …) are left out: their
# noise differs from run to run once another voice has spoken (measured).
VOICES = (
    ("en-us", 185, 45),
    ("en-us+f4", 195, 60),
    ("en-gb-scotland+m3", 180, 40),
    ("en-gb-x-rp+f1", 185, 55),
    ("en-029+m7", 200, 50),
    ("en-us-nyc+linda", 200, 65),
    ("en-gb-x-gbclan+m1", 180, 35),
    ("en-gb-x-gbcwmd+grandma", 190, 50),
    ("en-us+Andy", 195, 40),
    ("en-gb-x-rp+Annie", 200, 60),
    ("en-029+steph", 185, 55),
    ("en-gb-scotland+m4", 205, 55),
)
VOLUME = 60  # about as loud as LibriSpeech, whose mean and deviation are used
GENERATOR = 1  # to be raised when the voices, the sentences or the labels change
DEFAULT_ROOT, DEFAULT_VOICES, DEFAULT_SENTENCES = "data/synthetic-speech", 10, 20
MEAN_SAMPLES = 52_000  # of a sentence, measured


class SyntheticSpeech(LibriSpeech):
    """Sentences said by several voices at 16 kHz, with the labels `speaker` and `phones`.

    They are spoken once, into a folder of their own below `root` for every choice of voices, sentences and
    seed; the same choice gives the same bytes.

    Args:
        root: the folder below which they are written.
        voices: how many voices speak, 1 to 12.
        sentences: how many sentences each voice says.
        seed: another seed gives other sentences.
        splits: `{train = "…", test = "…"}`, files of one key a line, as `01-1-0000`; without them a part of
            every voice's sentences is for testing.
        test_fraction: fraction for testing where there are no `splits`.
        bad_items: "error", or "skip" to leave unreadable files out, up to 1 %; 0.05: up to 5 %; 10: up to ten.

    Raises:
        ConfigError: an argument is out of range, or the extra `speech` is not installed.
        DataError: the folder cannot be written, or a split list does not fit.
        IntegrityError: files of the corpus are missing.
    """

    label_sources = Dataset.label_sources

    def __init__(
        self,
        root: str = DEFAULT_ROOT,
        voices: int = DEFAULT_VOICES,
        sentences: int = DEFAULT_SENTENCES,
        seed: int = 0,
        splits: Mapping[str, str] | None = None,
        test_fraction: float = 0.2,
        bad_items: Policy = "error",
    ) -> None:
        if not 1 <= voices <= len(VOICES):
            raise ConfigError(f"data.voices is {voices}: set it to a number from 1 to {len(VOICES)}.")
        if not 1 <= sentences <= 9999:
            raise ConfigError(f"data.sentences is {sentences}: set it to a number from 1 to 9999.")
        settings, folder = _settings_and_folder(root, voices, sentences, seed)
        marker = {"format": 1, "settings": settings, "items": voices * sentences}
        write_corpus(folder, _utterances(voices, sentences, seed), marker)

        advice = f"Delete the folder {folder} and type the same command again."
        if read_json(folder / MARKER, advice) != marker:
            raise IntegrityError(f"{folder / MARKER} does not belong to this folder. {advice}")
        there = sum(1 for _ in folder.glob("*/*/*.flac"))
        if there != marker["items"]:
            raise IntegrityError(f"{folder} holds {there} of {marker['items']} utterances. {advice}")
        super().__init__(
            str(folder),
            subset=None,
            splits=splits,
            phones=str(folder / ALIGNMENT),
            bad_items=bad_items,
            test_fraction=test_fraction,
        )
        table = self.labels["phones"]
        assert isinstance(table, FrameTable)
        names = [name for _, name in read_lines(folder / NAMES)]
        self.labels = {**self.labels, "phones": replace(table, names=names)}

    @classmethod
    def is_there(cls, **arguments: Any) -> bool:
        """Say whether the sentences have been spoken."""
        choice: dict[str, Any] = {
            "root": DEFAULT_ROOT,
            "voices": DEFAULT_VOICES,
            "sentences": DEFAULT_SENTENCES,
            "seed": 0,
        }
        choice |= {key: value for key, value in arguments.items() if key in choice}
        return (_settings_and_folder(**choice)[1] / MARKER).exists()

    @classmethod
    def expected(cls, **arguments: Any) -> Expected | None:
        """Return how many sentences these arguments make, and about how many samples."""
        voices = arguments.get("voices", DEFAULT_VOICES)
        items = voices * arguments.get("sentences", DEFAULT_SENTENCES)
        source = "estimate from the mean length of a sentence"
        return Expected(items, items * MEAN_SAMPLES, source, classes={"speaker": voices})


def _settings_and_folder(root: str, voices: int, sentences: int, seed: int) -> tuple[dict[str, int], Path]:
    settings = {"generator": GENERATOR, "voices": voices, "sentences": sentences, "seed": seed}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return settings, Path(root) / f"{voices}-voices-{sentences}-sentences-{digest[:8]}"


def _utterances(voices: int, sentences: int, seed: int) -> list[Utterance]:
    return [
        Utterance(
            f"{voice + 1:02d}-1-{number:04d}",
            Request(sentence(seed, voice, number), name, rate, pitch, VOLUME),
        )
        for voice, (name, rate, pitch) in enumerate(VOICES[:voices])
        for number in range(sentences)
    ]
