"""A finished run from Python, read only: its stores as arrays, its frozen encoders as modules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stagewise.errors import ConfigError
from stagewise.runs.facts import run_facts
from stagewise.runs.folder import LOCK_FILE, RunFolder, find_run, in_use, runs_here
from stagewise.runs.items import ItemStore
from stagewise.runs.record import RECORD, WEIGHTS, read_record

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from stagewise.embedding.embed import Embedding, Pool
    from stagewise.runs.fitted import FittedProbe
    from stagewise.runs.frozen import FrozenEncoder


class StageView:
    """One finished stage.

    Attributes:
        name: of the stage.
        folder: where it lives.
        record: its `stage.json`.
    """

    def __init__(self, run: RunFolder, name: str, folder: Path, record: dict[str, Any]) -> None:
        self.name, self.folder, self.record = name, folder, record
        self._run = run

    @cached_property
    def store(self) -> ItemStore:
        """The representation of every item: `store[17]` is a float32 array (rows, channels) of `store.keys[17]`.

        `store.splits[17]` says what the item was for: "train", "validation", "test" or "none".

        Raises:
            ConfigError: the stage was recomputed instead of stored, or its store was dropped.
            IntegrityError: the store is damaged.
        """
        state = self.record["store"]["state"]
        if state != "written":
            raise ConfigError(
                f"stage {self.name} has no store (it was {state}: {self.record['store']['why']}). Set its "
                "store.write = true and store.keep = true and run again, or use "
                f'run.encoder("{self.name}") on the input.'
            )
        return ItemStore(self._run, self.folder, self.name)


class Run:
    """What one pipeline produced.

    Attributes:
        path: the run directory.
        stages: finished stages by name, lowest first.
        locked: what its `pipeline.lock.json` says.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        locked = find_run(path).locked
        assert locked is not None
        self.locked: Mapping[str, Any] = locked
        stages = {}
        for stage in locked["stages"]:
            folder = path / "stages" / str(stage["folder"])
            record = read_record(folder)
            if record is not None:
                stages[stage["name"]] = StageView(RunFolder(path), stage["name"], folder, record)
        self.stages: Mapping[str, StageView] = stages

    def __repr__(self) -> str:
        return f"<stagewise run {self.path}: finished {', '.join(self.stages) or 'nothing'}>"

    def untrained(self, stage: str, start: Literal["random", "loaded"] = "random") -> list[str]:
        """Return the finished stages up to one that were trained for no epoch, and began with such weights."""
        names = [s["name"] for s in self.locked["stages"]]
        trainable = {s["name"] for s in self.locked["stages"] if s["parameters"]}
        below = [name for name in names[: names.index(stage) + 1] if name in self.stages and name in trainable]
        trained = {name: self.stages[name].record["train"] for name in below}
        return [name for name, done in trained.items() if (done["epochs"], done.get("start", "random")) == (0, start)]

    @property
    def facts(self) -> dict[str, Any]:
        """What `stagewise inspect --json` prints."""
        return run_facts(find_run(self.path))

    def encoder(self, stage: str | None = None) -> FrozenEncoder:
        """Return everything from the raw input up to a stage, the topmost when left out, as one frozen module.

        Raises:
            ConfigError: the stage or one below it is not finished.
            IntegrityError: weights are damaged.
        """
        from stagewise.runs.frozen import load_encoder

        names, stage = [s["name"] for s in self.locked["stages"]], stage or self.top()
        if stage not in names:
            raise ConfigError(f"{self.path} has no stage {stage!r}; it has {', '.join(names)}.")
        needed = names[: names.index(stage) + 1]
        missing = [name for name in needed if name not in self.stages]
        if missing:
            others = self._others(missing[0], needed)
            if writer := RunFolder(self.path).writer:
                raise ConfigError(
                    f"stage {missing[0]} is not finished: {self.path} is {in_use(writer)}: wait for it.{others}"
                )
            raise ConfigError(
                f"stage {missing[0]} of {self.path} is not finished: type the command that made it again, with its "
                f"--set, or `stagewise stage {missing[0]} --resume --run {self.path}`.{others}"
            )
        views = [self.stages[name] for name in needed]
        folders = {view.folder: str(view.record["files"][WEIGHTS]) for view in views}
        return load_encoder(self.locked, folders, str(self.path / LOCK_FILE))

    def probe(self, name: str | None = None, stage: str | None = None) -> FittedProbe:
        """Return a fitted probe: its `result`, its `predictions()` of the test items, and `predict(files)`.

        Args:
            name: of the probe; may be left out where there is only one.
            stage: whose rows it reads; the topmost of those that it was fitted on when left out.

        Raises:
            ConfigError: there is no such probe, or it is not fitted.
            IntegrityError: its record is damaged.
        """
        from stagewise.runs.fitted import fitted_probe

        return fitted_probe(self, name, stage)

    def _others(self, missing: str, needed: Sequence[str]) -> str:
        """Say what could be used instead of a stage that is not finished."""
        below = needed[: needed.index(missing)]
        words = f" Finished, and taken with --stage: {', '.join(below)}." if below else ""
        older = RunFolder(self.path).earlier(len(below) + 1, missing)
        if any((folder / RECORD).exists() for folder in older):
            words += f" The run holds an older {missing}, which `run` with the settings of then puts in use again."
        runs = ", ".join(path for path in runs_here() if Path(path).resolve() != self.path.resolve())
        return words + (f" Other runs: {runs}." if runs else "")

    def top(self) -> str:
        """Return the name of the topmost stage."""
        return str(self.locked["stages"][-1]["name"])

    def embed(
        self, paths: Sequence[str | Path], stage: str | None = None, pool: Pool | None = None
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return the representation of audio or image files, (rows, channels), by path; all of it in memory.

        Args:
            paths: files, and folders of them.
            stage: whose representation; the topmost stage's when left out.
            pool: "mean" gives the mean of an item's rows, (channels,).

        Raises:
            ConfigError: there are no paths, or the stage is not there or not finished.
            DataError: files cannot be used.
            IntegrityError: weights are damaged.
        """
        made = self.embedding(paths, stage, pool)
        return {key: made.whole(item) for item, key in enumerate(made.keys)}

    def embedding(
        self,
        paths: Sequence[str | Path],
        stage: str | None = None,
        pool: Pool | None = None,
        report: Callable[..., None] = lambda *_, **__: None,
        skip: bool = False,
    ) -> Embedding:
        """Prepare what `embed` computes, to be taken piece by piece.

        Args:
            paths: files, and folders of them.
            stage: whose representation; the topmost stage's when left out.
            pool: "mean" gives the mean of an item's rows.
            report: told of progress, of conversions, and of what is left out.
            skip: leave out files that cannot be used.
        """
        from stagewise.embedding.embed import embedding

        encoder = self.encoder(stage or self.top())
        return embedding(encoder.to(self.device()), paths, pool, report, skip)

    def device(self) -> torch.device:
        """Return the pipeline's device if this machine has it, else the CPU."""
        import torch

        from stagewise.config import from_json

        name = from_json(self.locked["pipeline"]).pipeline.device
        if name == "cpu" or not torch.cuda.is_available():
            return torch.device("cpu")
        return torch.device("cuda" if name == "auto" else name)


def open_run(path: str | Path) -> Run:
    """Open a run directory to read from it.

    Raises:
        ConfigError: it is not a run.
        IntegrityError: one of its records is damaged.
    """
    return Run(Path(path))
