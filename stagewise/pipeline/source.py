"""Where each key of a pipeline file stands, so that a message can name file and line."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import Any

from stagewise.pipeline.wording import LONGEST, shown

# Dotted keys: how a TOML key is split into its parts, found in a parsed file, and shown to a reader.

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


# Where in a TOML text each key stands: `tomllib` parses but keeps no positions.

_BLANK = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_HEADER = re.compile(rf"\[(\[?)[ \t]*({KEY.pattern})[ \t]*\]\]?")
_ASSIGNMENT = re.compile(rf"({KEY.pattern})[ \t]*=")
_VALUE_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}'  # up to two of the closing quotes belong to the string
    r"|'''.*?'{3,5}"
    r'|"(?:\\.|[^"\\\n])*"'
    r"|'[^'\n]*'"
    r"|#[^\n]*"
    r"|[\[\]{}\n]"
    r"""|[^"'#\[\]{}\n]+"""
    r"|.",
    re.DOTALL,
)


def locate(text: str) -> dict[KeyPath, int]:
    """Map the path of every key and table to its line, counted from 1.

    Keys inside an inline table or an array are not listed: they stand where the key that holds them stands.

    Args:
        text: TOML that `tomllib` accepts, with line feeds for line ends.
    """
    lines: dict[KeyPath, int] = {(): 1}
    newest: dict[KeyPath, int] = {}  # array of tables -> index of its last table so far
    table: KeyPath = ()
    place = line = 0
    while True:
        blank = _BLANK.match(text, place)
        start = blank.end() if blank else place
        line += text.count("\n", place, start)
        if header := _HEADER.match(text, start):
            place = header.end()
            *parents, last = split_key(header[2])
            table = _resolve((), parents, newest)
            if header[1]:
                newest[(*table, last)] = newest.get((*table, last), -1) + 1
            table = _resolve(table, [last], newest)
            _record(lines, table, line + 1)
            lines[table] = line + 1
        elif assignment := _ASSIGNMENT.match(text, start):
            place = _end_of_value(text, assignment.end())
            _record(lines, (*table, *split_key(assignment[1])), line + 1)
            line += text.count("\n", start, place)
        else:
            return lines


def _resolve(path: KeyPath, parts: list[str], newest: dict[KeyPath, int]) -> KeyPath:
    """Extend a path by the parts of a header; a part that names an array of tables means its last table."""
    for part in parts:
        path = (*path, part)
        if path in newest:
            path = (*path, newest[path])
    return path


def _record(lines: dict[KeyPath, int], path: KeyPath, line: int) -> None:
    for length in range(1, len(path) + 1):
        lines.setdefault(path[:length], line)


def _end_of_value(text: str, place: int) -> int:
    """Return the place of the line end (or text end) after a value, which may itself span lines."""
    depth = 0
    for token in _VALUE_TOKEN.finditer(text, place):
        if token[0] == "\n" and depth == 0:
            return token.start()
        depth += (token[0] in ("[", "{")) - (token[0] in ("]", "}"))
    return len(text)


# Where a pipeline came from, so that every message can point at a line of the file or at a `--set`.


@dataclass(frozen=True)
class Source:
    """The file behind a pipeline; any two are equal, so that pipelines are compared by what they say."""

    name: str = field(default="pipeline", compare=False)
    tree: dict[str, Any] = field(default_factory=dict, compare=False)  # overrides applied, defaults not merged
    lines: dict[KeyPath, int] = field(default_factory=dict, compare=False)
    overridden: dict[KeyPath, str] = field(default_factory=dict, compare=False)  # path -> KEY as it was typed
    meant: dict[KeyPath, str] = field(default_factory=dict, compare=False)  # path -> whose short name it was

    def origin(self, path: KeyPath) -> KeyPath:
        """Return the path in the file of a value of the merged pipeline: its own, or that of its default."""
        if not present(self.tree, path):
            inherited: KeyPath = ()
            if path[:1] == ("stage",):
                inherited = ("defaults", *path[2:])
            elif path[:1] == ("probe",):
                inherited = ("defaults", "probe", *path[2:])
            if len(path) > 2 and present(self.tree, inherited):
                return inherited
        return path

    def line(self, path: KeyPath) -> int:
        """Return the line of a path of the file, or of the nearest table that holds it."""
        prefixes = (path[:length] for length in range(len(path), -1, -1))
        return next((self.lines[prefix] for prefix in prefixes if prefix in self.lines), 0)

    def override(self, path: KeyPath) -> str | None:
        """Return the `--set` key that a path of the file owes its value to."""
        prefixes = (path[:length] for length in range(len(path), 0, -1))
        return next((self.overridden[prefix] for prefix in prefixes if prefix in self.overridden), None)

    def where(self, path: KeyPath) -> str:
        """Write where a value stands: `pipelines/x.toml:12: stage.conv1.encoder` or `--set data.root`."""
        prefixes = (path[:length] for length in range(len(path), 0, -1))
        meant = next((f" ({self.meant[prefix]})" for prefix in prefixes if prefix in self.meant), "")
        path = self.origin(path)
        key = show_key(path, self.tree)
        typed = self.override(path)
        if typed is not None:
            place = f"--set {typed}" if self.overridden.get(path) == typed else f"--set {typed}: {key}"
            return place + meant
        place = f"{self.name}:{self.line(path)}" if self.lines else self.name
        return f"{place}: {key}{meant}" if key else place

    def forget(self, path: KeyPath) -> None:
        """Forget where a value stood that was taken away; what comes after it in a list moves up."""
        *way, last = path
        moved: dict[KeyPath, int] = {}
        for other, line in self.lines.items():
            if other[: len(path)] == path:
                continue
            step = other[len(way)] if isinstance(last, int) and other[: len(way)] == tuple(way) < other else None
            after = isinstance(step, int) and isinstance(last, int) and step > last
            moved[(*way, step - 1, *other[len(path) :]) if after and isinstance(step, int) else other] = line
        self.lines.clear()
        self.lines.update(moved)

    def path(self, key: str) -> KeyPath:
        """Return the path of a dotted key, in which stages and probes go by name or number."""
        path: KeyPath = ()
        node: Any = self.tree
        for part in split_key(key):
            index = find_item(node, part) if isinstance(node, list) else None
            step: str | int = part if index is None else index
            path = (*path, step)
            node = node[index] if index is not None else node.get(part) if isinstance(node, dict) else None
        return path
