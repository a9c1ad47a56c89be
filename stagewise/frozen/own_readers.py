"""What no item of a data set is, read as a data set's class of one's own says: files, and arrays of a program.

Shape suffixes: N items, C channels, T rows, H × W pixels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from stagewise.arrays import Floats, Ints
from stagewise.datasets import SHORT_NAMES
from stagewise.datasets.audio_files import AudioFiles
from stagewise.datasets.base import BadItem, Dataset
from stagewise.datasets.image_files import Pixels
from stagewise.errors import ConfigError, DataError, InputError
from stagewise.frozen.given_files import Given, GivenPixels, Report, no_patch
from stagewise.pipeline import resolve

Method = Literal["read_file", "read_array"]
METHODS: tuple[Method, ...] = ("read_file", "read_array")
READS = ("read", "_pixels")  # what a data set reads its items with, of samples and of images
Short = Callable[[int], str | None]


class OwnReader:
    """How a class reads what it is given, checked: float32 (C, T), or of images uint8 (H, W, C).

    Args:
        facts: `input` of the run's lock, and `reads`.
        method: of the class.
        sample_rate: that was said with an array; that of the run when left out.

    Raises:
        ConfigError: the class is not there, or does not say how such things are read.
        InputError: a sample rate was said, and the class asks for none.
    """

    def __init__(self, facts: Mapping[str, Any], method: Method, sample_rate: object = None) -> None:
        reads = facts["reads"]
        target, arguments = reads["target"], reads.get("arguments", {})
        kind = resolve(target, Dataset, SHORT_NAMES, "the data that these stages were trained on")
        if not has_own(kind, method):
            thing = "a file" if method == "read_file" else "an array"
            raise ConfigError(
                f"{target} does not say how {thing} that is no item of it is read: give it a class method `{method}`, "
                "or read items with it and give them to the encoder in Python."
            )
        names = asked_for(kind, method)
        if sample_rate is not None and "sample_rate" not in names:
            raise InputError(f"{target} asks for no sample_rate: leave it out.")
        said = {} if sample_rate is None else {"sample_rate": sample_rate}
        known = _defaults(kind) | arguments | {name: facts[name] for name in ("mean", "std", "sample_rate")} | said
        self._read: Callable[..., object] = getattr(kind, method)
        self._named = {name: known[name] for name in names if name in known}
        self._words, self._images = f"{kind.__name__}.{method}", len(facts.get("row_shape") or ()) == 3
        self._channels = facts["channels"]

    def __call__(self, given: object) -> npt.NDArray[Any] | str:
        """Return what the class makes of it, or what is wrong with it."""
        try:
            found = np.asarray(self._read(given, **self._named))
        except Exception as error:  # whatever somebody's class raises
            return f"{type(error).__name__}: {error}".strip(" .")
        shape, dtype = found.shape, found.dtype
        if self._images:
            found = found[:, :, None] if found.ndim == 2 else found
            if found.ndim != 3 or found.shape[2] != self._channels or dtype != np.uint8:
                return f"{self._words} gives {dtype} {shape}, not uint8 (height, width, {self._channels})"
            return found
        if found.ndim != 2 or found.shape[0] != self._channels or dtype.kind != "f":
            return f"{self._words} gives {dtype} {shape}, not float32 ({self._channels}, rows)"
        if not np.isfinite(found).all():
            return f"{self._words} gives NaN or infinity"
        return found.astype(np.float32, copy=False)


class GivenOwn(Dataset):
    """Items that somebody names, as a class reads them; the one that was read last is kept.

    Args:
        lengths: rows of every item, by key.
        bad: what was left out.
        load: reads an item.
        facts: `input` of the run's lock.
    """

    def __init__(
        self, lengths: Mapping[str, int], bad: list[BadItem], load: Callable[[str], Floats], facts: Mapping[str, Any]
    ) -> None:
        self.keys, self.lengths = list(lengths), np.array(list(lengths.values()), np.int64)
        self.channels, self.sample_rate = facts["channels"], facts["sample_rate"] or 0
        self.mean, self.std, self.bad, self.labels = facts["mean"], facts["std"], bad, {}
        self._load = load
        self._last: tuple[int, Floats] | None = None

    def read(self, item: int, start: int, stop: int) -> Floats:
        """Return rows of an item; raises DataError where it cannot be read any more."""
        if self._last is None or self._last[0] != item:
            self._last = None
            whole_CT = self._load(self.keys[item])
            if whole_CT.shape[1] != self.lengths[item]:
                raise DataError(f"cannot read {self.keys[item]}: it has changed since it was looked at.")
            self._last = item, whole_CT
        return self._last[1][:, start:stop]

    def split(self, name: Literal["train", "test"]) -> Ints:
        """Return the items as test items: nothing is trained on them."""
        return np.arange(len(self) if name == "test" else 0, dtype=np.int64)

    def fingerprint(self) -> str:
        """Return nothing: no result is kept under it."""
        return ""


class GivenOwnImages(GivenPixels):
    """Images that somebody names, as a class reads them; arguments as of `GivenOwn`, with sizes in pixels."""

    def __init__(
        self,
        sizes: Mapping[str, tuple[int, int]],
        bad: list[BadItem],
        load: Callable[[str], Pixels],
        facts: Mapping[str, Any],
    ) -> None:
        super().__init__(sizes, bad, facts)
        self._load_key = load

    def _load(self, image: int) -> Pixels:
        pixels_HWC = self._load_key(self.keys[image])
        if pixels_HWC.shape[:2] != (*self._sizes_N2[image].tolist(),):
            raise DataError(f"cannot read {self.keys[image]}: it has changed since it was looked at.")
        return pixels_HWC.copy()


def own_files(
    paths: Sequence[str | Path], facts: Mapping[str, Any], short: Short, report: Report, skip: bool
) -> Dataset:
    """Look at files, and at all those in folders, as a class of one's own reads them.

    Raises:
        ConfigError: there are no paths, or the class does not say how a file is read.
        DataError: files cannot be used.
    """
    read = OwnReader(facts, "read_file")

    def load(path: str) -> npt.NDArray[Any]:
        found = read(path)
        if isinstance(found, str):
            raise DataError(f"cannot read {path}: {found}.")
        return found

    def look(path: str) -> tuple[int, ...] | str:
        found = read(path)
        return found if isinstance(found, str) else found.shape

    def problem(shape: tuple[int, ...]) -> str | None:
        return _problem(shape, facts, short)

    found, bad = Given.of(paths, (), "input").probed(look, problem, report, skip)
    return _items(found, bad, load, facts)


def own_array(given: object, facts: Mapping[str, Any], short: Short, sample_rate: object) -> Dataset:
    """Take what a program holds, as a class of one's own reads it, for the only item of a data set.

    Raises:
        ConfigError: the class does not say how an array is read.
        InputError: it cannot be used.
    """
    found = OwnReader(facts, "read_array", sample_rate)(given)
    reason = found if isinstance(found, str) else _problem(found.shape, facts, short)
    if isinstance(found, str) or reason is not None:
        raise InputError(f"what encoder.embed was given cannot be embedded: {reason}.")
    return _items({"array": found.shape}, [], lambda _: found, facts)


def kind_of(reads: Mapping[str, Any]) -> str | None:
    """Return "audio" or "image" where files are read as our own data sets read them, else None.

    A class below one of ours that changes neither what is read nor how, such as labels alone, is read as that.
    """
    kind = None if reads["kind"] is not None else _class(reads)
    if kind is None or not issubclass(kind, AudioFiles) or any(has_own(kind, method) for method in METHODS):
        return None if reads["kind"] is None else str(reads["kind"])
    return "audio" if _owner(kind, "read") is _owner(kind, "_samples") is AudioFiles else None


def takes(reads: Mapping[str, Any], method: Method = "read_file") -> bool:
    """Whether files, or arrays, can be embedded: those that a run was trained on can be read by themselves."""
    if kind_of(reads) is not None:
        return True
    kind = _class(reads)
    return kind is not None and has_own(kind, method)


def exported(reads: Mapping[str, Any]) -> dict[str, Any]:
    """Return how files are read, with those arguments of the data set alone that reading them takes."""
    if (known := kind_of(reads)) is not None:
        return {**reads, "kind": known, "arguments": {}}
    kind = _class(reads)  # without it nothing can be read so
    methods = [] if kind is None else [method for method in METHODS if has_own(kind, method)]
    names = {name for method in methods if kind is not None for name in asked_for(kind, method)}
    given = reads.get("arguments", {})
    return {**reads, "arguments": {name: value for name, value in given.items() if name in names}}


def has_own(kind: type[Dataset], method: Method) -> bool:
    """Whether a class says how it reads what is no item of it, and does not read its items in another way below."""
    owner = _owner(kind, method)
    return owner is not Dataset and not any(
        issubclass(other, owner) and other is not owner for other in (_owner(kind, name) for name in READS)
    )


def asked_for(kind: type[Dataset], method: Method) -> list[str]:
    """Return the arguments that a class's method names, beside the first."""
    return list(inspect.signature(getattr(kind, method)).parameters)[1:]


def _class(reads: Mapping[str, Any]) -> type[Dataset] | None:
    try:
        return resolve(reads["target"], Dataset, SHORT_NAMES, "data")
    except ConfigError:
        return None


def _owner(kind: type[Dataset], name: str) -> type:
    return next((each for each in kind.__mro__ if name in vars(each)), Dataset)


def _defaults(kind: type[Dataset]) -> dict[str, Any]:
    parameters = inspect.signature(kind).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}


def _problem(shape: tuple[int, ...], facts: Mapping[str, Any], short: Short) -> str | None:
    return short(shape[1]) if len(shape) == 2 else no_patch(shape[0], shape[1], facts)


def _items(
    shapes: Mapping[str, tuple[int, ...]], bad: list[BadItem], load: Callable[[str], Any], facts: Mapping[str, Any]
) -> Dataset:
    if len(facts.get("row_shape") or ()) == 3:
        return GivenOwnImages({key: (shape[0], shape[1]) for key, shape in shapes.items()}, bad, load, facts)
    return GivenOwn({key: shape[1] for key, shape in shapes.items()}, bad, load, facts)
