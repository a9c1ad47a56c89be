"""Read a pipeline file, lay overrides over it, merge its defaults, validate it; and to JSON and back."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from stagewise.config.installed import with_full_names
from stagewise.config.locate import locate
from stagewise.config.merge import with_defaults
from stagewise.config.overrides import Overrides, apply_overrides, take_away
from stagewise.config.problems import Report, model_problems
from stagewise.config.rules import name_problems, plain_problems
from stagewise.config.schema import Defaults, Pipeline
from stagewise.config.source import Source
from stagewise.config.wording import shown
from stagewise.errors import ConfigError

LARGEST_FILE = 1 << 20  # bytes; the largest sensible pipeline file has a few thousand
_PART = r"""(?:"[^"\n]*"|'[^'\n]*'|(?<![\w-])[\w-]+)"""
_LONG_KEY = re.compile(rf"(?:{_PART}[ \t]*\.[ \t]*){{64}}")


def load_pipeline(path: Path, sets: Overrides = (), unset: Sequence[str] = ()) -> Pipeline:
    """Read and validate a pipeline file; nothing but the file is touched and torch is not imported.

    Args:
        path: the TOML file.
        sets: overrides, `["KEY=VALUE", …]` or `{KEY: value}`.
        unset: keys, tables or items of a list that are taken away before.

    Raises:
        ConfigError: the file cannot be read, or something in it or in an override is wrong; the message has a
            line for each problem.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file{_neighbour(path)}") from None
    except IsADirectoryError:
        beside = path.parent / f"{path.name}.toml"
        if beside.is_file():
            raise ConfigError(f"{path} is a folder, no pipeline file: type {beside}.") from None
        raise ConfigError(
            f"{path} is a folder, no pipeline file: type `stagewise init {path}` to have one made for what is in it."
        ) from None
    except (OSError, ValueError) as error:
        words = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{shown(str(path))} cannot be read as a pipeline file: {words}") from None
    if len(content) > LARGEST_FILE:
        raise ConfigError(f"{path}: larger than 1 MiB, which is no pipeline file; nothing was run.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text: save it as UTF-8; nothing was run.") from None
    return load_text(text, str(path), sets, unset)


def load_text(text: str, name: str, sets: Overrides = (), unset: Sequence[str] = ()) -> Pipeline:
    """Validate the text of a pipeline file; `name` is what messages call the file.

    Raises:
        ConfigError: as `load_pipeline`.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    try:
        tree = _parse(text, name)
        return _validated(Source(name, tree, locate(text)), sets, unset)
    except RecursionError:
        raise ConfigError(f"{name}: lists or tables are nested too deep; nothing was run.") from None


def to_json(pipeline: Pipeline) -> dict[str, Any]:
    """Return everything a pipeline says, defaults and overrides merged, as JSON can hold it."""
    return pipeline.model_dump(mode="json")


def from_json(content: dict[str, Any], name: str = "pipeline.lock.json") -> Pipeline:
    """Return the pipeline that `to_json` wrote; `name` is what messages call it.

    Raises:
        ConfigError: the content is not that of a pipeline.
    """
    return _validated(Source(name, content), ())


def _parse(text: str, name: str) -> dict[str, Any]:
    """Parse TOML, with the place of a mistake in front of its message."""
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ConfigError(f"{name}:{line}: contains a zero byte: save it as UTF-8 text; nothing was run.")
    if long_key := _LONG_KEY.search(text):  # tomllib takes time quadratic in the parts of a key
        line = text.count("\n", 0, long_key.start()) + 1
        raise ConfigError(f"{name}:{line}: a key of more than 64 parts; nothing was run.")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = re.search(r" \(at line (\d+), column (\d+)\)$", message)
        line, column = (int(place[1]), f" at column {place[2]}") if place else (text.count("\n") + 1, "")
        words = message.split(" (at ")[0].rstrip(".")
        hint = " (text needs quotes, numbers, true and false do not)" if words == "Invalid value" else ""
        if words.startswith("Cannot declare ('"):
            hint = " (tables of which there are several have two brackets: [[stage]], [[probe]])"
        raise ConfigError(f"{name}:{line}: not TOML: {words}{column}{hint}; nothing was run.") from None
    except ValueError:  # the only other one: an int of more digits than Python reads
        raise ConfigError(f"{name}: a number has thousands of digits; nothing was run.") from None


def _validated(source: Source, sets: Overrides, unset: Sequence[str] = ()) -> Pipeline:
    report = Report(source)
    take_away(unset, source, report)
    apply_overrides(sets, source, report)
    merged = with_full_names(with_defaults(source.tree), source, report)
    defaults = source.tree.get("defaults", {})
    found = chain(
        plain_problems(source.tree),
        model_problems(Defaults, defaults, ("defaults",)),
        model_problems(Pipeline, merged),
        name_problems(merged),
    )
    for path, problem in found:
        report.add(path, problem)
    report.raise_all()
    pipeline = Pipeline.model_validate(merged)
    pipeline._source = source
    return pipeline


def _neighbour(path: Path) -> str:
    """Suggest the file that was probably meant."""
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix == ".toml"]
    except OSError:
        return "; check the path"
    close = difflib.get_close_matches(path.name, names, n=1)
    return f' (did you mean "{path.with_name(close[0])}"?)' if close else "; check the path"
