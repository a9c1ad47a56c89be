"""Speak with espeak-ng in a process of its own: `python espeak.py`, requests on stdin, speech on stdout.

A process of its own because the library keeps its noise generator and oscillators in global state that
nothing resets: the same sentence sounds different the second time. A fresh process that speaks the same
list gives the same bytes, and a crash of the library cannot take a training run with it.
It imports nothing but Python, so that it starts at once and runs as a plain file.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from typing import Any, BinaryIO

# From espeak-ng's speak_lib.h.
SYNCHRONOUS, PHONEME_EVENTS, UTF8 = 2, 1, 1
RATE, VOLUME, PITCH = 1, 2, 3
END_OF_EVENTS, PHONEME = 0, 7


class _Name(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("pointer", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("milliseconds", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", _Name),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class Speaker:
    """The library, initialised; there can be one in a process.

    Attributes:
        rate: samples per second of what it says.
    """

    def __init__(self, library_path: str, data_path: str) -> None:
        self._library = ctypes.CDLL(library_path)
        self.rate = int(self._library.espeak_Initialize(SYNCHRONOUS, 0, data_path.encode(), PHONEME_EVENTS))
        if self.rate <= 0:
            raise RuntimeError(f"espeak-ng does not start with the data in {data_path}")
        self._samples = bytearray()
        self._phonemes: list[tuple[int, str]] = []
        self._callback = _Callback(self._receive)  # the library keeps only its address
        self._library.espeak_SetSynthCallback(self._callback)

    def speak(self, request: dict[str, Any]) -> tuple[bytes, list[tuple[int, str]]]:
        """Say `text` as `voice` with `rate` (words per minute), `pitch` (0 to 100) and `volume` (0 to 200).

        Returns:
            16-bit samples, and every phoneme with the sample at which it begins.
        """
        self._samples.clear()
        self._phonemes.clear()
        text = request["text"].encode()
        failed = self._library.espeak_SetVoiceByName(request["voice"].encode())
        for parameter, name in ((RATE, "rate"), (VOLUME, "volume"), (PITCH, "pitch")):
            failed = failed or self._library.espeak_SetParameter(parameter, request[name], 0)
        failed = failed or self._library.espeak_Synth(text, len(text) + 1, 0, 1, 0, UTF8, None, None)
        failed = failed or self._library.espeak_Synchronize()
        if failed or not self._samples:
            raise RuntimeError(f"espeak-ng cannot say {request} (code {failed})")
        return bytes(self._samples), list(self._phonemes)

    def _receive(self, wave: Any, count: int, events: Any) -> int:
        if count > 0:
            self._samples.extend(ctypes.string_at(wave, 2 * count))
        index = 0
        while events[index].type != END_OF_EVENTS:
            if events[index].type == PHONEME:
                self._phonemes.append((events[index].sample, events[index].name.string.decode()))
            index += 1
        return 0


def serve(requests: dict[str, Any], out: BinaryIO) -> None:
    """Answer every request with a line of JSON, `{rate, bytes, phonemes}`, and the samples' bytes."""
    speaker = Speaker(requests["library"], requests["data"])
    for request in requests["requests"]:
        samples, phonemes = speaker.speak(request)
        out.write(json.dumps({"rate": speaker.rate, "bytes": len(samples), "phonemes": phonemes}).encode() + b"\n")
        out.write(samples)
        out.flush()


if __name__ == "__main__":
    # A signal to the whole process group is for the run to answer, which ends this process when it wants to.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever the library prints must not get between the answers
    serve(json.load(sys.stdin), answers)
    answers.close()
