"""What is said in an audio file: its transcript, and the words of it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container, Sequence
from pathlib import Path

from stagewise.datasets.textfiles import read_lines

NUMBER = re.compile(r"\w*\d\w*")
SPOKEN = re.compile("[&%@+=#$€£]")  # signs that are said as words
NOTE = re.compile(r"\[[^\]]*\]|<[^>]*>")  # what somebody wrote who heard it, such as [laughter]


def find_transcripts(root: Path, names: Sequence[str]) -> list[str | None]:
    """Return the transcript of every audio file: NAME.txt beside it, or its line `NAME text` of a .trans.txt there.

    Args:
        root: the folder that the files lie below.
        names: their paths in it.

    Raises:
        DataError: a transcript cannot be read, or is not UTF-8.
    """
    tables: dict[Path, dict[str, str]] = {}
    found: list[str | None] = []
    for name in names:
        audio = root / name
        own = audio.with_suffix(".txt")
        if own.is_file():
            found.append(" ".join(line for _, line in read_lines(own)))
            continue
        if audio.parent not in tables:
            tables[audio.parent] = _table(audio.parent)
        found.append(tables[audio.parent].get(audio.stem))
    return found


def split_words(text: str, dictionary: Container[str]) -> list[str] | str:
    """Return a transcript's words in small letters, or why they cannot be told; accents and punctuation are dropped."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("’", "'"))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    number = NUMBER.search(plain)
    if number is not None:
        return f"its transcript holds the number '{number[0]}': write it in words"
    sign, note = SPOKEN.search(plain), NOTE.search(plain)
    if sign is not None:
        return f"its transcript holds '{sign[0]}': write it in words"
    if note is not None:
        return f"its transcript holds '{note[0]}': take away what is not said, and brackets around what is"
    foreign = next((letter for letter in plain if letter.isalpha() and not letter.isascii()), None)
    if foreign is not None:
        return f"its transcript holds '{foreign}', which is no English letter"
    words = [word if word in dictionary else word.strip("'") for word in re.findall("[a-z']+", plain)]
    return [word for word in words if word] or "its transcript is empty"


def _table(folder: Path) -> dict[str, str]:
    """Read LibriSpeech's lists of transcripts, a line `NAME text` for each utterance."""
    table = {}
    for path in sorted(folder.glob("*.trans.txt")):
        if path.name.startswith("."):  # as no audio file's name does: macOS keeps notes of its own under ._NAME
            continue
        for _, line in read_lines(path):
            name, _, text = line.strip().partition(" ")
            table[name] = text
    return table
