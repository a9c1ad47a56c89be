"""A run opened for reading: its stages, stores, items, probes and encoders.

Legend: C channels, K classes, n rows of a piece.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from stagewise import durable
from stagewise.arrays import Floats
from stagewise.errors import ConfigError, IntegrityError
from stagewise.runs.facts import run_facts
from stagewise.runs.folder import LOCK_FILE, RunFolder, find_run, in_use, runs_here
from stagewise.runs.items import ItemStore
from stagewise.runs.records import RECORD, TENSORS, WEIGHTS, read_predictions, read_probe, read_record, same_weights
from stagewise.text import counted

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from stagewise.frozen.encoder import Embedding, FrozenEncoder
    from stagewise.pipeline import Pool

# A fitted probe of a run: what it found, what it said of every test example, and what it says of other files.

Line = dict[str, Any]  # of a table: what each of its columns says
SUFFIXES = (".csv", ".json")


@dataclass(frozen=True)
class FittedProbe:
    """A probe on one stage of a run.

    Attributes:
        run: whose it is.
        name, stage: of the probe, and of the stage whose rows it reads.
        folder: where it lives.
        result: its `probe.json`: accuracy, interval, names of the classes.
    """

    run: Run
    name: str
    stage: str
    folder: Path
    result: dict[str, Any]

    @property
    def of_items(self) -> bool:
        """Whether it says one class an item, else one a row."""
        return bool(self.result["pool"])

    def predictions(self) -> Iterator[Line]:
        """Yield what it said of every test example: key, row (of a probe of rows), label, predicted, probability.

        Raises:
            ConfigError: an older version fitted it, and kept none.
            IntegrityError: they are not what was written.
        """
        found = read_predictions(self.folder, self.result)
        if found is None:
            raise self._older("no predictions")
        return found.lines(self.result["class_names"], not self.of_items)

    def predict(
        self,
        paths: Sequence[str | Path],
        report: Callable[..., None] = lambda *_, **__: None,
        skip: bool = False,
    ) -> Iterator[Line]:
        """Yield what it says of audio or image files: key, predicted, probability; of a probe of rows one line a row.

        Files are read as `embed` reads them, piece by piece; a row is named by its number and by the seconds at which
        what it says is centred. Of images, the centred crop is read, as for the test.

        Args:
            paths: files, and folders of them.
            report: told of progress, of conversions, and of what is left out.
            skip: leave out files that cannot be used.

        Raises:
            ConfigError: there are no paths, a stage is not there, or an older version fitted the probe.
            DataError: files cannot be used.
            IntegrityError: weights or the probe are damaged.
            NumberError: a row is NaN or infinite.
        """
        from stagewise.datasets.images import Images
        from stagewise.frozen.encoder import embedding
        from stagewise.training.feed import CentreSource

        if "class_names" not in self.result:
            raise self._older("no names of classes")
        encoder = self.run.encoder(self.stage).to(self.run.device())
        read, names = self._reader(), self.result["class_names"]
        made = embedding(encoder, paths, self.result["pool"], report, skip)
        dataset = getattr(made.chain.source, "dataset", None)
        if isinstance(dataset, Images):
            if (larger := int((dataset.grids > dataset.crop).any(1).sum())) > 0:
                what = counted(larger, "image is", "images are")
                report("note", text=f"{what} larger than a training crop: what the probe says is of the middle alone")
            made = replace(made, chain=replace(made.chain, source=CentreSource(made.chain.source, dataset)))
        for item, key in enumerate(made.keys):
            row = 0
            for rows_nC in made.pieces(item):
                for number, share in zip(*read(rows_nC), strict=True):
                    place = {} if self.of_items else {"row": row, "seconds": self._seconds(encoder, row)}
                    yield {"key": key, **place, "predicted": names[number], "probability": round(share, 6)}
                    row += 1
            report("probe", probe=self.name, stage=self.stage, items=item + 1, of=len(made.keys))

    def _older(self, kept: str) -> ConfigError:
        return ConfigError(
            f"probe {self.name} on {self.stage} is of an older version, which kept {kept}: type "
            f"`stagewise probe {self.name} --run {self.run.path}`."
        )

    def _seconds(self, encoder: FrozenEncoder, row: int) -> float:
        assert encoder.sample_rate is not None  # images have no rows with classes of their own
        shift = (1 + self.result["label_offset"]) * encoder.hop
        return round(float(encoder.geometry.centre + row * encoder.hop + shift) / encoder.sample_rate, 4)

    def _reader(self) -> Callable[[Floats], tuple[list[int], list[float]]]:
        """Return what gives classes and probabilities of rows, float32 (n, C)."""
        import torch

        from stagewise.probing.fit import network
        from stagewise.training.checkpoint import read_tensors, restore

        path = self.folder / TENSORS
        try:
            whole = durable.sha256_of(path) == self.result["sha256"]
        except OSError:
            whole = False
        if not whole:
            raise IntegrityError(
                f"{path} is not what was written. Delete {self.folder} and type `stagewise probe {self.name}`."
            )
        tensors = read_tensors(path)
        mean_C, deviation_C = tensors.pop("mean"), tensors.pop("deviation")
        probe = network(len(mean_C), self.result["classes"], self.result["hidden"])
        restore({f"probe.{name}": tensor for name, tensor in tensors.items()}, {"probe": probe}, None)

        def read(rows_nC: Floats) -> tuple[list[int], list[float]]:
            with torch.inference_mode():
                x_nC = (torch.from_numpy(np.ascontiguousarray(rows_nC)) - mean_C) / deviation_C
                shares, numbers = probe(x_nC).softmax(1).max(1)
            return numbers.tolist(), shares.tolist()

        return read


def fitted_probe(run: Run, name: str | None, stage: str | None, random: bool = False) -> FittedProbe:
    """Return a probe of a run.

    Args:
        run: the run.
        name: of the probe; the only one when left out.
        stage: whose rows it reads; the topmost of those that it was fitted on when left out.
        random: that on the stages before training.

    Raises:
        ConfigError: there is no such probe, or it is not fitted.
        IntegrityError: its record is damaged.
    """
    locked = run.locked.get("probes", [])
    names = list(dict.fromkeys(probe["name"] for probe in locked))
    if name is None and len(names) > 1:
        raise ConfigError(f"{run.path} has several probes: name one of them, {', '.join(names)}.")
    if not names or (name is not None and name not in names):
        asked = f"no probe {name!r}; it has {', '.join(names)}" if names else "no probe"
        raise ConfigError(f"{run.path} has {asked}.")
    name = name or names[0]
    there = [probe for probe in locked if probe["name"] == name and bool(probe.get("random")) == random]
    stages = [probe["stage"] for probe in there]
    if stage is not None and stage not in stages:
        before = " before training" if random else ""
        read = f"reads {', '.join(stages)}{before}" if stages else f"reads no stage{before}"
        raise ConfigError(f"probe {name} of {run.path} {read}, not {stage}.")
    found = next(probe for probe in reversed(there) if stage in (None, probe["stage"]))
    folder = run.path / "probes" / found["folder"]
    result = read_probe(folder, name)
    view = run.stages.get(found["stage"])
    weights = None if random or view is None else view.record["files"][WEIGHTS]
    if result is None or view is None or not same_weights(result.get("weights"), weights):
        raise ConfigError(
            f"probe {name} on {found['stage']} is not fitted yet: type `stagewise probe {name} --run {run.path}`."
        )
    return FittedProbe(run, name, found["stage"], folder, result)


def all_predictions(run: Run, name: str | None) -> Iterator[Line]:
    """Yield what a probe said of every test example on each stage that it reads, trained and before training.

    Raises:
        ConfigError: there is no such probe, or it is not fitted, or it kept none.
        IntegrityError: they are not what was written.
    """
    name = fitted_probe(run, name, None).name
    for probe in run.locked["probes"]:
        if probe["name"] == name:
            random = bool(probe.get("random"))
            place = {"stage": probe["stage"], "weights": "before training" if random else "trained"}
            for line in fitted_probe(run, name, probe["stage"], random).predictions():
                yield place | line


def write_lines(path: Path, lines: Iterable[Line]) -> int:
    """Write a table as .csv or .json while its lines come, durably, and return how many there were.

    Raises:
        DiskError: the disk is full, read-only or failing; nothing is left, or what was there.
    """
    count = 0

    def blocks() -> Iterator[bytes]:
        nonlocal count
        for count, line in enumerate(lines, 1):
            if path.suffix == ".json":
                yield f"{'[' if count == 1 else ','}\n{json.dumps(line, ensure_ascii=False)}".encode()
                continue
            text = io.StringIO()
            table = csv.writer(text, lineterminator="\n")
            if count == 1:
                table.writerow(line)
            table.writerow(line.values())
            yield text.getvalue().encode()
        if path.suffix == ".json":
            yield b"\n]\n" if count else b"[]\n"

    durable.write_bytes(path, blocks())
    return count


def check_table(out: Path, force: bool, option: str = "--out") -> None:
    """See that a table can be written, before anything is computed for it; `option` names it.

    Raises:
        ConfigError: its name has another ending, its folder is not there, or something is in its place.
    """
    from stagewise.frozen.writers import check_place

    if out.suffix not in SUFFIXES:
        raise ConfigError(f"{option} {out}: the file's name must end in {' or '.join(SUFFIXES)}.")
    check_place(out, force, option=option)


# A finished run from Python, read only: its stores as arrays, its frozen encoders as modules.


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
        from stagewise.frozen.encoder import load_encoder

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
            pool: "mean" gives the mean of an item's rows, (channels,); "mean+std" also their deviations.

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
            pool: "mean" gives the mean of an item's rows, "mean+std" also their deviations.
            report: told of progress, of conversions, and of what is left out.
            skip: leave out files that cannot be used.
        """
        from stagewise.frozen.encoder import embedding

        encoder = self.encoder(stage or self.top())
        return embedding(encoder.to(self.device()), paths, pool, report, skip)

    def device(self) -> torch.device:
        """Return the pipeline's device if this machine has it, else the CPU."""
        import torch

        from stagewise.pipeline import from_json

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
