"""How words are said: pocketsphinx's dictionary, and espeak-ng for the words that it lacks."""

from __future__ import annotations

from collections.abc import Sequence

from stagewise.datasets.speech import Request, speak

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
