"""Where in a TOML text each key stands: `tomllib` parses but keeps no positions."""

from __future__ import annotations

import re

from stagewise.config.keys import KEY, KeyPath, split_key

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
