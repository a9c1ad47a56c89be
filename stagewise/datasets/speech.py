"""Ask `espeak.py` in a process of its own for speech, one answer at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from stagewise.errors import ConfigError, DataError


@dataclass(frozen=True)
class Request:
    """What to say and how: `rate` in words per minute, `pitch` 0 to 100, `volume` 0 to 200."""

    text: str
    voice: str
    rate: int
    pitch: int
    volume: int


@dataclass(frozen=True)
class Speech:
    """What was said.

    Attributes:
        samples: int16 (T,).
        rate: samples per second.
        phones: every phoneme in espeak-ng's notation, with the sample at which it begins, in order.
    """

    samples: npt.NDArray[np.int16]
    rate: int
    phones: Sequence[tuple[int, str]]


def speak(requests: Sequence[Request]) -> Iterator[Speech]:
    """Yield the speech of every request, in order; the same list always gives the same samples.

    Raises:
        ConfigError: the extra `speech` is not installed.
        DataError: espeak-ng failed.
    """
    try:
        import espeakng_loader
    except ImportError:
        raise ConfigError(
            "synthetic speech needs espeak-ng: type  pip install 'stagewise[speech]'  and try again."
        ) from None
    order = {
        "library": str(espeakng_loader.get_library_path()),
        "data": str(espeakng_loader.get_data_path()),
        "requests": [asdict(request) for request in requests],
    }
    command = [sys.executable, "-I", str(Path(__file__).with_name("espeak.py"))]
    with tempfile.TemporaryFile() as messages:
        child = subprocess.Popen(  # noqa: S603 (our own file, run by our own Python)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=messages
        )
        with child:
            assert child.stdin is not None and child.stdout is not None  # noqa: PT018
            try:
                with child.stdin:
                    child.stdin.write(json.dumps(order).encode())
                for _ in requests:
                    yield _answer(child.stdout)
            except (BrokenPipeError, EOFError):
                code = child.wait()
                messages.seek(0)
                last = messages.read().decode(errors="replace").strip().rpartition("\n")[2]
                raise DataError(
                    f"espeak-ng stopped with code {code} ({last or 'no message'}): type "
                    "pip install --force-reinstall 'stagewise[speech]'  and try again."
                ) from None
            finally:
                child.kill()


def _answer(stream: IO[bytes]) -> Speech:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    head = json.loads(line)
    data = stream.read(head["bytes"])
    if len(data) < head["bytes"]:
        raise EOFError
    return Speech(np.frombuffer(data, dtype=np.int16), head["rate"], [(at, name) for at, name in head["phonemes"]])
