"""Small audio data sets made on the spot, and the real ones where the machine has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import soundfile
from audio_examples import RATE, noise

Make = Callable[[Sequence[str]], Path]


@pytest.fixture
def speech(tmp_path: Path) -> Make:
    """Write utterances of these keys in LibriSpeech's layout, each of another length."""

    def make(keys: Sequence[str]) -> Path:
        root = tmp_path / "speech"
        for number, key in enumerate(keys):
            speaker, chapter, _ = key.split("-")
            path = root / speaker / chapter / f"{key}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, noise(number, 3000 + 160 * number), RATE)
        return root

    return make
