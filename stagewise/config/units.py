"""Units live in values: "3 GiB" is a number of bytes, "10 min" a number of seconds."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from stagewise.config.wording import shown

_NUMBER = r"\d{1,15}(?:\.\d{1,9})?"
_BYTES = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}
LARGEST = 2**63 - 1  # what TOML, JSON and file systems can count


def parse_bytes(value: object) -> int:
    """Read a size: a whole number of bytes, or text such as "3 GiB" or "1.5 GB".

    Raises:
        ValueError: it is not a size of at least one byte.
    """
    size = _parse(value, _BYTES)
    if isinstance(value, float) or size is None or not 1 <= size <= LARGEST:
        raise ValueError(
            f'{shown(value)} is not a size: write "3 GiB", "64 MiB" or a whole number of bytes, at least 1'
        )
    return int(size)


def parse_duration(value: object) -> float:
    """Read a duration: a number of seconds, or text such as "10 min", "30 s" or "2 h".

    Raises:
        ValueError: it is not a duration.
    """
    seconds = _parse(value, _SECONDS)
    if seconds is None or not 0 <= seconds <= LARGEST:
        raise ValueError(f'{shown(value)} is not a duration: write "10 min", "30 s", "2 h" or a number of seconds')
    return float(seconds)


def _parse(value: object, units: dict[str, int]) -> int | float | Decimal | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        return None
    match = re.fullmatch(rf"\s*({_NUMBER})\s*([A-Za-z]+)\s*", value, re.ASCII)
    by_lower = {name.lower(): factor for name, factor in units.items()}
    if match is None or match[2].lower() not in by_lower:
        return None
    return Decimal(match[1]) * by_lower[match[2].lower()]


def _schema(number: dict[str, object], units: dict[str, int]) -> dict[str, object]:
    text = {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*({'|'.join(units)})\s*$"}
    return {"anyOf": [number, text]}


Bytes = Annotated[int, BeforeValidator(parse_bytes), WithJsonSchema(_schema({"type": "integer", "minimum": 1}, _BYTES))]
Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(_schema({"type": "number", "minimum": 0}, _SECONDS)),
]
