"""What an audio file holds by its own bytes, before a decoder sees it: whether all of it is there, and only one of it.

Decoders read on where a header lies: they give a third of an MP3 without a length, the first of two streams, half of
a file that was cut. Here sizes, pages and frames are counted.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from mmap import ACCESS_READ, mmap
from pathlib import Path

CUT = "it ends before its header says: the file is cut short or damaged"
JOINED = "several recordings are joined in it, of which a decoder gives the first: encode it again as one"
UNCLOSED = "it was not closed by what wrote it: save it again with an audio editor"
UNKNOWN = "it is no FLAC, WAV, OGG, MP3, AIFF, CAF or AU file: convert it to one"
STREAMED = 2**31 - 2**16  # 32-bit sizes from here on are of a writer that did not know how long its file would be
SLACK = 512  # bytes behind the samples that no reader needs to know
TAIL = 2**16  # bytes of an end that is looked at
KNOWN_CHUNKS = (b"LIST", b"id3 ", b"ID3 ", b"bext", b"cue ", b"fact", b"JUNK", b"iXML", b"_PMX", b"free", b"info")
BEGINNINGS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"FORM", b"caff", b".snd", b"fLaC", b"OggS")


class Flaw(Exception):
    """Why a file cannot be used."""


@dataclass(frozen=True)
class Mending:
    """What takes the place of a file's beginning, where a decoder would not read all of it otherwise.

    Attributes:
        head: these bytes …
        skip: … in the place of so many; none in the place of none where nothing is to be mended.
        samples: per channel that there are then, if that is known.
    """

    head: bytes
    skip: int
    samples: int | None = None


def examine(path: str) -> Mending | None:
    """Look at the sizes, pages or frames of a file that is not empty.

    Raises:
        Flaw: it is cut, joined, not closed, or of an unknown kind.
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        start = _behind_tag(data)
        found = CHECKS.get(data[start : start + 4])
        try:
            if found is not None:
                return found(data, start)
            if _frame(data[start : start + 4]):
                return _mp3(data, start)
        except struct.error:  # there are too few bytes
            raise Flaw(CUT) from None
        raise Flaw(UNKNOWN)


# WAV, RF64, W64, AIFF and CAF: chunks of a name, a size and what they hold


@dataclass(frozen=True)
class _Chunks:
    """How a container writes its chunks: where the first one is, name and size, and what they are rounded to."""

    first: int
    head: str
    align: int
    data: bytes
    counts_head: bool = False  # whether a size holds name and size themselves


RIFF = _Chunks(12, "<4sI", 2, b"data")
RIFX = _Chunks(12, ">4sI", 2, b"data")
W64 = _Chunks(40, "<16sQ", 8, b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a", counts_head=True)
AIFF = _Chunks(12, ">4sI", 2, b"SSND")
CAF = _Chunks(8, ">4sQ", 1, b"data")


def _chunked(kind: _Chunks) -> Callable[[mmap, int], Mending | None]:
    def check(data: mmap, start: int) -> Mending | None:
        long_size = None
        for name, place, size in _walk(data, kind, start + kind.first):
            if name == b"ds64":
                long_size = struct.unpack("<Q", data[place + 8 : place + 16])[0]
            if name == kind.data:
                if long_size is not None and size >= STREAMED:
                    size = long_size
                return _judge(data, kind, place, size, start)
        raise Flaw(CUT)

    return check


def _walk(data: mmap, kind: _Chunks, at: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, place and size of what the chunks hold that begin in a file."""
    width = struct.calcsize(kind.head)
    while at + width <= len(data):
        name, size = struct.unpack(kind.head, data[at : at + width])
        size = size - width if kind.counts_head else size
        if size < 0:
            raise Flaw(CUT)
        yield name, at + width, size
        at += width + -(-size // kind.align) * kind.align


def _judge(data: mmap, kind: _Chunks, place: int, size: int, start: int) -> Mending | None:
    """Compare how many bytes of samples there should be with how many there are."""
    there = len(data) - place
    if size == 2**64 - 1 or (size >= STREAMED and kind.head[-1] == "I"):  # it is not known
        return None
    if size > there:
        padded = kind.align == 2 and size % 2 == 1 and size == there + 1
        if padded or size in (len(data), len(data) - 8):  # a byte of padding, or the header itself, is counted
            return None
        raise Flaw(CUT)
    behind = place + -(-size // kind.align) * kind.align
    rest = _unexplained(data, kind, behind)
    if kind is W64:
        rest = max(0, len(data) - behind)  # decoders take all of it for samples
    if rest == 0:
        return None
    if size == 0 and kind is RIFF and place < STREAMED:
        # A recorder that died, or was switched off: it writes the size last.
        return Mending(data[start : place - 4] + struct.pack("<I", min(rest, 2**32 - 1)), place)
    raise Flaw(f"{rest:,} bytes follow the samples that its header counts: {UNCLOSED}")


def _unexplained(data: mmap, kind: _Chunks, at: int) -> int:
    """Return how many bytes lie behind the samples that are neither chunks, nor zeros, nor a few."""
    end, width = _before_tags(data), struct.calcsize(kind.head)
    while end - at > SLACK:
        if data[at : at + 4] in BEGINNINGS:
            raise Flaw(JOINED)
        name, size = struct.unpack(kind.head, data[at : at + width])
        size = size - width if kind.counts_head else size
        named = name in KNOWN_CHUNKS or (name[:4].isascii() and name[:4].decode("latin-1").isprintable())
        if named and size >= 0 and (at + width + size <= len(data) or name in KNOWN_CHUNKS):
            at += width + -(-size // kind.align) * kind.align
        elif kind.align == 2 and data[at - 1] and data[at - 1 : at + 3].isalpha():
            at -= 1  # a writer that forgot the padding
        else:
            return 0 if _zeros(data[at:end]) else end - at
    return 0


def _au(data: mmap, start: int) -> None:
    place, size = struct.unpack(">II", data[start + 4 : start + 12])
    there = len(data) - place
    if size == 2**32 - 1:
        return
    if size > there:
        raise Flaw(CUT)
    rest = there - size
    if data[place + size : place + size + 4] in BEGINNINGS:
        raise Flaw(JOINED)
    if rest > SLACK and not _zeros(data[place + size :]):
        raise Flaw(f"{rest:,} bytes follow the samples that its header counts: {UNCLOSED}")


# FLAC: frames that count themselves

BLOCKS = {1: 192} | {code: 576 << code - 2 for code in range(2, 6)} | {code: 256 << code - 8 for code in range(8, 16)}


def _flac(data: mmap, start: int) -> None:
    """See that the last frame is the one that the header says is the last."""
    info = data[start + 8 : start + 42]
    if len(info) < 34:
        raise Flaw(CUT)
    block, largest = int.from_bytes(info[2:4], "big"), int.from_bytes(info[7:10], "big")
    fixed = info[:2] == info[2:4]
    packed = int.from_bytes(info[10:18], "big")
    channels, bits, samples = (packed >> 41 & 7) + 1, (packed >> 36 & 31) + 1, packed & 2**36 - 1
    if samples == 0:
        return  # of unknown length, which is refused by that
    end = _before_tags(data)
    end -= len(data[max(0, end - TAIL) : end]) - len(data[max(0, end - TAIL) : end].rstrip(b"\0"))
    if end - start > 0.7 * samples * channels * bits / 8 and data.find(b"fLaC\0\0\0\x22", start + 4) >= 0:
        raise Flaw(JOINED)
    tail = data[max(start, end - (largest or TAIL) - 2 * SLACK) : end]
    last = max((stop for stop in _flac_frames(tail, block if fixed else 0) if stop == samples), default=None)
    if last is None:
        raise Flaw("its last frame is not the one that its header says: the file is cut short, damaged, or joined")


def _flac_frames(tail: bytes, block: int) -> Iterator[int]:
    """Yield where the frames that begin in some bytes end, in samples."""
    at = tail.find(b"\xff")
    while at >= 0:
        head = tail[at : at + 16]
        if len(head) > 5 and head[1] & 0xFE == 0xF8:
            ones = 8 - (head[4] ^ 0xFF).bit_length()  # as UTF-8 says how many bytes follow
            width = max(1, ones)
            number = head[4] & 0x7F >> ones
            for byte in head[5 : 4 + width]:
                number = number << 6 | byte & 0x3F
            code, rate = head[2] >> 4, head[2] & 15
            place = 4 + width
            extra = {6: 1, 7: 2}.get(code, 0)
            size = int.from_bytes(head[place : place + extra], "big") + 1 if extra else BLOCKS.get(code, 0)
            place += extra + {12: 1, 13: 2, 14: 2}.get(rate, 0)
            if place < len(head) and size and _crc8(head[:place]) == head[place]:
                yield (number if head[1] & 1 else number * block) + size
        at = tail.find(b"\xff", at + 1)


def _crc8(content: bytes) -> int:
    value = 0
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ (0x107 if value & 0x80 else 0)) & 0x1FF
    return value


# OGG: pages with a sum each

MIRRORED = bytes(int(f"{number:08b}"[::-1], 2) for number in range(256))


def _ogg(data: mmap, start: int) -> None:
    """See that every page is there and as it was written, and that one stream ends after another one's begin."""
    at, end = start, _before_tags(data)
    pages: dict[bytes, int] = {}
    begun, ended = False, True
    while end - at >= 27 and data[at : at + 4] == b"OggS":
        flags, serial = data[at + 5], data[at + 14 : at + 18]
        number = struct.unpack("<I", data[at + 18 : at + 22])[0]
        sizes = at + 27 + data[at + 26]
        after = sizes + sum(data[at + 27 : sizes])
        if after > end:
            raise Flaw(CUT)
        if not flags & 2:
            begun = True
        elif begun:
            raise Flaw(JOINED)
        else:
            pages[serial] = number - 1
        if serial not in pages or number != pages[serial] + 1:
            raise Flaw("a part of it is missing: the file is damaged")
        if _ogg_sum(data[at : at + 22] + b"\0\0\0\0" + data[at + 26 : after]) != data[at + 22 : at + 26]:
            raise Flaw("a part of it is not what was written: the file is damaged")
        pages[serial], ended = number, bool(flags & 4)
        at = after
    rest = data[at:end]
    if not ended or rest[:4] == b"OggS":
        raise Flaw(CUT)
    if len(rest) > SLACK and not _zeros(rest):
        raise Flaw("a part of it is not what was written: the file is damaged")


def _ogg_sum(page: bytes) -> bytes:
    """Return Ogg's sum: that of zlib with the bits the other way round, without its first and last step."""
    value = zlib.crc32(page.translate(MIRRORED), 2**32 - 1) ^ 2**32 - 1
    return value.to_bytes(4, "big").translate(MIRRORED)


# MP3: frames, of which the first one may say how many there are

RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
KILOBITS = {
    (3, 3): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclass(frozen=True)
class _Frame:
    """What the four bytes of a frame's header say: bytes, samples, samples per second, and its layer, 1 to 3."""

    size: int
    samples: int
    rate: int
    layer: int
    info: int  # where its first frame's own words are


def _frame(head: bytes) -> _Frame | None:
    """Read a frame's header, None if it is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    return _frame_of(head[1], head[2], head[3] >> 6)


@cache
def _frame_of(first: int, second: int, mode: int) -> _Frame | None:
    version, layer, kilobits, rate = first >> 3 & 3, first >> 1 & 3, second >> 4, second >> 2 & 3
    if version == 1 or layer == 0 or kilobits in (0, 15) or rate == 3:
        return None
    per_second = RATES[version][rate]
    bits = 1000 * KILOBITS[3 if version == 3 else 2, layer if version == 3 or layer == 3 else 2][kilobits - 1]
    padding = second >> 1 & 1
    if layer == 3:
        return _Frame(4 * (12 * bits // per_second + padding), 384, per_second, 1, 0)
    samples = 576 if layer == 1 and version != 3 else 1152
    side = (17 if mode == 3 else 32) if version == 3 else (9 if mode == 3 else 17)
    return _Frame(samples // 8 * bits // per_second + padding, samples, per_second, 4 - layer, 4 + side)


def _mp3(data: mmap, start: int) -> Mending | None:
    """See that the first frame says how many there are, or count them and write one that does."""
    first = _frame(data[start : start + 4])
    assert first is not None
    end, place = _before_tags(data), start + first.info
    told = data[place : place + 4] in (b"Xing", b"Info")
    flags, frames = struct.unpack(">II", data[place + 4 : place + 12]) if told else (0, 0)
    own = told or data[start + 36 : start + 40] == b"VBRI"
    begin = start + first.size if own else start
    counted, lost, whole = _count(data, begin, end)
    if flags & 1:  # some count the first frame, too
        if counted < frames - 1:
            raise Flaw(CUT)
        if counted > frames + 1:
            raise Flaw(f"its header counts {frames:,} of {counted:,} frames: {JOINED}")
        if lost > max(TAIL // 4, len(data) // 10):
            raise Flaw(f"{lost:,} bytes behind its frames are none: the file is damaged")
        return Mending(b"", 0, counted * first.samples)
    if not whole:
        raise Flaw("its last frame is not whole: the file is cut short")
    if lost > SLACK:
        raise Flaw(f"{lost:,} bytes between its frames are none: the file is damaged")
    if first.layer != 3:
        return Mending(b"", 0, counted * first.samples)
    return Mending(_info_frames(data[begin : begin + 4], counted, end - begin), begin, counted * first.samples)


def _count(data: mmap, at: int, end: int) -> tuple[int, int, bool]:
    """Count frames up to the end, and bytes between them that are none; say whether the last one is whole."""
    count, kind, lost = 0, None, 0
    while at + 4 <= end:
        frame = _frame(data[at : at + 4])
        if frame is None or (kind and (frame.rate, frame.layer) != kind):
            after = _next_frame(data, at + 1, end)
            if data[at : at + 3] == b"ID3" and after < end:
                raise Flaw(JOINED)
            lost += 0 if _zeros(data[at:after]) else after - at
            at = after
            continue
        kind = frame.rate, frame.layer
        at += frame.size
        count += at <= end
    return count, lost, at <= end


def _next_frame(data: mmap, at: int, end: int) -> int:
    """Return where the next frame begins that another one follows; the end if none does."""
    while (at := data.find(b"\xff", at, end)) >= 0:
        frame = _frame(data[at : at + 4])
        if frame and (at + frame.size == end or _frame(data[at + frame.size : at + frame.size + 4])):
            return at
        at += 1
    return end


def _info_frames(like: bytes, frames: int, size: int) -> bytes:
    """Return a first frame that says how many follow, of the kind of those, and a silent one.

    A decoder drops as many samples at the beginning as the first frame says, and 529 more: here the silent ones.
    """
    heads = [bytes([0xFF, like[1] | 1, kilobits << 4 | like[2] & 0x0C, like[3]]) for kilobits in range(1, 15)]
    sizes = [(head, frame) for head in heads if (frame := _frame(head))]
    head, frame = next((head, frame) for head, frame in sizes if frame.size >= frame.info + 52)  # the smallest
    words = b"Info" + struct.pack(">III", 3, frames + 1, 2 * frame.size + size)
    dropped = (frame.samples - 529 << 12).to_bytes(3, "big")
    first = head + bytes(frame.info - 4) + words + b"stagewise".ljust(21, b"\0") + dropped
    return first.ljust(frame.size, b"\0") + head.ljust(frame.size, b"\0")


# Tags before and behind what is decoded


def _behind_tag(data: mmap) -> int:
    """Return where a file begins behind ID3 tags of version 2, and the zeros that pad them."""
    at = 0
    while data[at : at + 3] == b"ID3" and len(data) >= at + 10:
        size = 0
        for byte in data[at + 6 : at + 10]:
            size = size << 7 | byte & 0x7F
        at += 10 + size + (10 if data[at + 5] & 0x10 else 0)
        stop = min(len(data), at + TAIL)
        at += len(data[at:stop]) - len(data[at:stop].lstrip(b"\0"))
    return at


def _before_tags(data: mmap) -> int:
    """Return where a file ends before ID3 tags of version 1, and those of APE and Lyrics3."""
    end = len(data)
    while end >= 128:
        if data[end - 128 : end - 125] == b"TAG":
            end -= 128
        elif data[end - 32 : end - 24] == b"APETAGEX":
            size, _, flags = struct.unpack("<III", data[end - 20 : end - 8])
            end -= max(32, size) + (32 if flags >> 31 else 0)
        elif data[end - 9 : end] == b"LYRICS200" and data[end - 15 : end - 9].isdigit():
            end -= 15 + int(data[end - 15 : end - 9])
        else:
            break
    return max(0, end)


def _zeros(content: bytes) -> bool:
    return content.count(0) == len(content)


CHECKS: dict[bytes, Callable[[mmap, int], Mending | None]] = {
    b"RIFF": _chunked(RIFF),
    b"RIFX": _chunked(RIFX),
    b"RF64": _chunked(RIFF),
    b"BW64": _chunked(RIFF),
    b"riff": _chunked(W64),
    b"FORM": _chunked(AIFF),
    b"caff": _chunked(CAF),
    b".snd": _au,
    b"fLaC": _flac,
    b"OggS": _ogg,
}
