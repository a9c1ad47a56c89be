"""Whatever a file says, the answer is a pipeline or a ConfigError."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pipeline_examples import EXAMPLE
from toml_pieces import PIECES

from stagewise.errors import ConfigError
from stagewise.pipeline import Pipeline, from_json, json_schema, load_text

MUTATIONS = st.lists(
    st.tuples(st.integers(0, len(EXAMPLE)), st.integers(0, 30), st.sampled_from(PIECES) | st.text(max_size=5)),
    min_size=1,
    max_size=6,
)
VALUES = ["1", "x", "nan", "[1]", "{}", "{ a = 1 }", "[[]]", '"\\u0000"', "1\n2"]
KEYS = [
    *[
        "data",
        "data.root.x",
        "stage",
        "stage.1",
        "stage.conv1.train",
        "stage.context.encoder.x.y",
        "probe",
        "",
    ],
    *["probe.1.stages", "defaults", "defaults.probe", "defaults.train.optimizer", "format", "pipeline.name"],
]
SETS = st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)).map("=".join), max_size=3)


def check(load: Callable[[], Pipeline]) -> None:
    """A pipeline that survives JSON, or an error that can be shown; any other exception fails the test."""
    try:
        pipeline = load()
    except ConfigError as error:
        message = str(error)
    else:
        assert from_json(pipeline.model_dump(mode="json")) == pipeline
        return
    assert message.endswith("nothing was run.")
    assert all(line.isprintable() for line in message.split("\n"))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(MUTATIONS, SETS)
def test_mutated_characters(mutations: list[tuple[int, int, str]], sets: list[str]) -> None:
    text = EXAMPLE
    for place, length, piece in mutations:
        text = text[:place] + piece + text[place + length :]
    check(lambda: load_text(text, "x.toml", sets))


LINES = EXAMPLE.split("\n")
EDITS = st.tuples(
    st.sampled_from(["drop", "repeat", "move", "key", "value"]),
    st.integers(0, len(LINES) - 1),
    st.integers(0, len(LINES) - 1),
    st.sampled_from(VALUES + PIECES),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(EDITS, min_size=1, max_size=4), SETS)
def test_mutated_lines(edits: list[tuple[str, int, int, str]], sets: list[str]) -> None:
    """Most of these are still TOML, so that the mistakes are found by the models and the rules."""
    lines = list(LINES)
    for edit, number, other, piece in edits:
        line = lines[number % len(lines)]
        key, _, value = line.partition(" = ")
        if edit in ("drop", "move"):
            lines[number % len(lines)] = ""
        if edit in ("repeat", "move"):
            lines.insert(other, line)
        if edit == "key" and value:
            lines[number % len(lines)] = f"{piece} = {value}"
        if edit == "value" and value:
            lines[number % len(lines)] = f"{key} = {piece}"
    check(lambda: load_text("\n".join(lines), "x.toml", sets))


STAGE_KEYS = [*json_schema()["$defs"]["Stage"]["properties"], "target", "x"]
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["all", "a", "1 GiB", "\0", "gru"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(STAGE_KEYS), inner),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["format", "pipeline", "data", "stage", "probe", "defaults", "x"]), TREES))
@example({"defaults": {"probe": {"name": 1}}, "probe": [{"defaults": 1}], "stage": [[]]})
def test_random_content(content: dict[str, object]) -> None:
    check(lambda: from_json(content))
