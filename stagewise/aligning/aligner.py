"""Fit the words of a transcript to speech with pocketsphinx.

Shape suffixes: T samples at 16 kHz, F label frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stagewise.datasets.base import Floats

SILENCE = "SIL"
# The classes: silence, noises and breath, and then the dictionary's phones without stress.
NAMES = "SIL AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH"
PHONES = NAMES.split()
NUMBER = {name: number for number, name in enumerate(PHONES)}
# With `bestpath` on, a third of real utterances fail (measured).
SETTINGS = {"lm": None, "bestpath": False, "cmn": "batch", "loglevel": "FATAL"}
WIDE = {"beam": 1e-200, "wbeam": 1e-180, "pbeam": 1e-200}  # tried next: a fifth slower, finds very short words
NATS = 1024 * math.log(1.0001)  # of pocketsphinx's unit of an acoustic score


@dataclass(frozen=True)
class Aligned:
    """What is said when.

    Attributes:
        runs: class and number of frames of every phone, in order.
        score: mean acoustic log-likelihood of a frame, in nats, against its best sound: 0 at most.
    """

    runs: list[tuple[int, int]]
    score: float


class Aligner:
    """pocketsphinx with its American English; what it finds does not depend on what it did before."""

    def __init__(self) -> None:
        self._decoders: dict[bool, Any] = {}

    def align(self, samples_T: Floats, words: Sequence[str], unknown: Mapping[str, str], frames: int) -> Aligned | None:
        """Return the phones of an utterance, None if its words cannot be found in it.

        Args:
            samples_T: in [-1, 1], at 16 kHz.
            words: in small letters.
            unknown: the phones of those that are not in the dictionary.
            frames: F, of the result; they begin every 10 ms, as pocketsphinx's do.
        """
        pcm = np.clip(np.rint(samples_T * 32768), -32768, 32767).astype(np.int16).tobytes()
        for wide in (False, True):
            heard = self._hear(self._decoder(wide), pcm, words, unknown)
            if heard is not None:
                return _aligned(heard, frames)
        return None

    def _decoder(self, wide: bool) -> Any:
        if wide not in self._decoders:
            from pocketsphinx import Decoder

            self._decoders[wide] = Decoder(**SETTINGS, **(WIDE if wide else {}))
        return self._decoders[wide]

    def _hear(self, decoder: Any, pcm: bytes, words: Sequence[str], unknown: Mapping[str, str]) -> list[Any] | None:
        """Find the words first, and then the phones in them; returns pocketsphinx's entries of phones."""
        for word, phones in unknown.items():
            if decoder.lookup_word(word) is None:
                decoder.add_word(word, phones, True)
        decoder.reinit_feat(None)  # else what it heard before would change what it hears now (measured)
        decoder.set_align_text(" ".join(words))
        try:
            _listen(decoder, pcm)
            if decoder.hyp() is None:
                return None
            decoder.set_alignment()
            _listen(decoder, pcm)
            entries = [(word.name.partition("(")[0], list(word)) for word in decoder.get_alignment()]
        except RuntimeError:  # it gave up in the middle
            return None
        if [word for word, _ in entries if word[:1] not in ("<", "[", "")] != list(words):
            return None
        return [phone for _, phones in entries for phone in phones]


def _listen(decoder: Any, pcm: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()


def _aligned(entries: Sequence[Any], frames: int) -> Aligned:
    """Cover all label frames: pocketsphinx's window is 10 samples longer than a label's, so it may see one less."""
    ends = [entry.start for entry in entries[1:]] + [frames]
    starts = [0, *ends[:-1]]
    runs = [
        (NUMBER.get(entry.name, 0), min(end, frames) - start)
        for entry, start, end in zip(entries, starts, ends, strict=True)
        if start < min(end, frames)
    ]
    heard = sum(entry.duration for entry in entries)
    return Aligned(runs, round(NATS * sum(entry.score for entry in entries) / heard, 4))
