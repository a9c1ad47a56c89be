"""A finished run from Python, read only: its stores as arrays, its frozen encoders as modules."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stagewise.errors import ConfigError
from stagewise.runs.facts import run_facts
from stagewise.runs.folder import LOCK_FILE, find_run
from stagewise.runs.record import read_record
from stagewise.stores import StoreReader

if TYPE_CHECKING:
    from stagewise.runs.frozen import FrozenEncoder


class StageView:
    """One finished stage.

    Attributes:
        name: of the stage.
        folder: where it lives.
        record: its `stage.json`.
    """

    def __init__(self, name: str, folder: Path, record: dict[str, Any]) -> None:
        self.name, self.folder, self.record = name, folder, record

    @cached_property
    def store(self) -> StoreReader:
        """The representation of every item: `store[17]` is a float32 array (rows, channels).

        Raises:
            ConfigError: the stage was recomputed instead of stored, or its store was dropped.
            IntegrityError: the store is damaged.
        """
        state = self.record["store"]["state"]
        if state != "written":
            raise ConfigError(
                f"stage {self.name} has no store (it was {state}: {self.record['store']['why']}). Set its "
                "store.write = true and store.keep = true and run again, or use run.encoder() on the input."
            )
        return StoreReader(self.folder)


class Run:
    """What one pipeline produced.

    Attributes:
        path: the run directory.
        stages: finished stages by name, lowest first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        locked = find_run(path).locked
        assert locked is not None
        self._locked = locked
        stages = {}
        for stage in locked["stages"]:
            folder = path / "stages" / str(stage["folder"])
            record = read_record(folder)
            if record is not None:
                stages[stage["name"]] = StageView(stage["name"], folder, record)
        self.stages: Mapping[str, StageView] = stages

    @property
    def facts(self) -> dict[str, Any]:
        """What `stagewise inspect --json` prints."""
        return run_facts(find_run(self.path))

    def encoder(self, stage: str) -> FrozenEncoder:
        """Return everything from the raw input up to a stage as one frozen module.

        Raises:
            ConfigError: the stage or one below it is not finished.
            IntegrityError: weights are damaged.
        """
        from stagewise.runs.frozen import load_encoder

        names = [s["name"] for s in self._locked["stages"]]
        if stage not in names:
            raise ConfigError(f"{self.path} has no stage {stage!r}; it has {', '.join(names)}.")
        needed = names[: names.index(stage) + 1]
        missing = [name for name in needed if name not in self.stages]
        if missing:
            raise ConfigError(f"stage {missing[0]} of {self.path} is not finished: type `stagewise run FILE` to go on.")
        folders = [self.stages[name].folder for name in needed]
        return load_encoder(self._locked, folders, str(self.path / LOCK_FILE))


def open_run(path: str | Path) -> Run:
    """Open a run directory to read from it.

    Raises:
        ConfigError: it is not a run.
        IntegrityError: one of its records is damaged.
    """
    return Run(Path(path))
