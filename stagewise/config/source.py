"""Where a pipeline came from, so that every message can point at a line of the file or at a `--set`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from stagewise.config.keys import KeyPath, find_item, present, show_key, split_key


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
