"""The words of a transcript fitted to speech, and how words are said that no dictionary has.

Legend: T samples at 16 kHz, F label frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stagewise.arrays import Floats
from stagewise.datasets.corpus import Request, speak

# Fit the words of a transcript to speech with pocketsphinx.

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


# How words are said: pocketsphinx's dictionary, and espeak-ng for the words that it lacks.

# The dictionary's phones, and the sounds of espeak-ng's American English that stand for them; `-` for none. Of 6,000
# words of the dictionary, mostly names, 59 % come out as it has them, and 10 % of the phones differ (measured).
TABLE = (
    "AA=0 A: A~|AA R=A@|AE=a aa|AH=@ @- V a#|AH L=@L|AH N=n-|AO=O: O2|AO R=O@ o@|AW=aU|AY=aI|AY ER=aI3|AY AH=aI@|B=b|"
    "CH=tS|D=d|DH=D|EH=E|EH R=e@|ER=3 3:|EY=eI|F=f|G=g|HH=h|IH=I I# I2|IH R=i@3|IY=i i:|IY AH=i@|JH=dZ|K=k x|L=l|M=m|"
    "N=n|NG=N|OW=oU|OY=OI|P=p|R=r|S=s|SH=S|T=t t# t2|TH=T|UH=U|UH R=U@|UW=u:|V=v|W=w|Y=j|Z=z|ZH=Z|-=r- ; ?"
)
# The phones of the letters of a word that espeak-ng says in other sounds than these.
PHONES_OF_LETTERS = "AE B K D EH F G HH IH JH K L M N AA P K R S T AH V W Z IY Z"
LETTERS = dict(zip("abcdefghijklmnopqrstuvwxyz", PHONES_OF_LETTERS.split(), strict=True))
SOUNDS = {
    sound: phones for phones, _, sounds in (row.partition("=") for row in TABLE.split("|")) for sound in sounds.split()
}


def read_dictionary() -> set[str]:
    """Return the words that pocketsphinx knows."""
    import pocketsphinx

    with open(pocketsphinx.get_model_path("en-us/cmudict-en-us.dict"), encoding="utf-8") as file:  # noqa: PTH123
        return {line.split(maxsplit=1)[0] for line in file}


def spell(word: str) -> str:
    """Return a phone for every letter of a word, for a doubled one the same as for one."""
    letters = [letter for letter, before in zip(word, " " + word, strict=False) if letter != before]
    return " ".join(LETTERS[letter] for letter in letters if letter in LETTERS)


def pronounce(words: Sequence[str]) -> dict[str, str]:
    """Return the phones of words as espeak-ng says them, `K AY N`; what it says in other sounds is left out.

    Raises:
        DataError: espeak-ng failed.
    """
    said = {}
    for word, speech in zip(words, speak([Request(word, "en-us", 175, 50, 60) for word in words]), strict=True):
        sounds = [SOUNDS.get(name.lstrip("',%=")) for _, name in speech.phones if not name.startswith("_")]
        phones = " ".join(sound for sound in sounds if sound not in (None, "-"))
        if phones and None not in sounds:
            said[word] = phones.replace(" R R", " R")
    return said
