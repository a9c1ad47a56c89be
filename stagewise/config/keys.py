"""Dotted keys: how a TOML key is split into its parts, found in a parsed file, and shown to a reader."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from stagewise.config.wording import LONGEST, shown

# Where a value lies in a parsed file: keys of tables, indices (from 0) of lists.
KeyPath = tuple[str | int, ...]

_PART = r"""(?:[A-Za-z0-9_-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')"""
KEY = re.compile(rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def split_key(key: str) -> tuple[str, ...]:
    """Split a dotted TOML key, bare or quoted, into its parts.

    Raises:
        ValueError: it is not a TOML key.
    """
    if not KEY.fullmatch(key):
        raise ValueError(f"{shown(key)} is not a key")
    parts: list[str] = []
    node: Any = tomllib.loads(f"{key} = 0")  # TOML's own rules for quotes and escapes
    while isinstance(node, dict):
        ((part, node),) = node.items()
        parts.append(part)
    return tuple(parts)


def show_key(path: KeyPath, tree: object) -> str:
    """Write a path as a user would type it: items of a list by their name, or by their number from 1."""
    parts = []
    node = tree
    for step in path:
        node = child(node, step)
        if isinstance(step, str):
            parts.append(_quoted(step))
        else:
            name = node.get("name") if isinstance(node, dict) else None
            named = isinstance(name, str) and 0 < len(name) <= LONGEST
            parts.append(_quoted(str(name)) if named else str(step + 1))
    return ".".join(parts)


def find_item(items: list[Any], part: str) -> int | None:
    """Return the index of the item called `part`, by its name or else by its number from 1."""
    for index, item in enumerate(items):
        if isinstance(item, dict) and item.get("name") == part:
            return index
    if part.isdecimal() and len(part) < 10 and 1 <= int(part) <= len(items):
        return int(part) - 1
    return None


def child(node: object, step: str | int) -> Any:
    """Return what lies one step down, None if nothing does."""
    if isinstance(node, dict):
        return node.get(step)
    if isinstance(node, list | tuple) and isinstance(step, int) and step < len(node):
        return node[step]
    return None


def present(tree: object, path: KeyPath) -> bool:
    """Tell whether the file itself says something at this path."""
    for step in path:
        tree = child(tree, step)
    return tree is not None


def _quoted(part: str) -> str:
    return part if _BARE.fullmatch(part) else shown(part)
