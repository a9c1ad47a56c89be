"""Every random choice is a pure function of named parts, so that any step can be drawn again alone."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: str | int) -> int:
    """Return a 63-bit seed from parts such as (seed, stage, epoch); other parts give an unrelated one."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
