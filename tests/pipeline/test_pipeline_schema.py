"""The JSON Schema says of the file what the models accept."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
from pipeline_examples import EXAMPLE, MINIMAL

from stagewise.pipeline import json_schema
from stagewise.pipeline.schema import PATTERNS, PipelineFile


def _check(value: object, node: dict[str, Any], root: dict[str, Any]) -> bool:
    """As much of JSON Schema as the file's schema uses."""
    if "$ref" in node:
        return _check(value, root["$defs"][node["$ref"].removeprefix("#/$defs/")], root)
    if "anyOf" in node:
        return any(_check(value, each, root) for each in node["anyOf"])
    kinds = {
        "string": str,
        "integer": int,
        "number": int | float,
        "boolean": bool,
        "object": dict,
        "array": list,
    }
    if "type" in node and (
        not isinstance(value, kinds[node["type"]]) or (isinstance(value, bool) and node["type"] != "boolean")
    ):
        return False
    if isinstance(value, dict):
        known = node.get("properties", {})
        return (
            set(node.get("required", ())) <= set(value)
            and (node.get("additionalProperties", True) is not False or set(value) <= set(known))
            and all(_check(inner, known[key], root) for key, inner in value.items() if key in known)
        )
    if isinstance(value, list):
        return len(value) >= node.get("minItems", 0) and all(
            _check(each, node.get("items", {}), root) for each in value
        )
    if isinstance(value, str) and "pattern" in node and not re.search(node["pattern"], value):
        return False
    if isinstance(value, int | float) and not isinstance(value, bool) and value < node.get("minimum", value):
        return False
    return value in node.get("enum", [value]) and value == node.get("const", value)


FULL = (
    EXAMPLE
    + """\
epochs = 2
[[probe]]
name = "p"
stages = ["conv1", "context"]
labels = "x"
optimizer = { lr = 1e-4 }
[defaults.probe]
label_offset = -2
"""
)


@pytest.mark.parametrize("text", [EXAMPLE, MINIMAL, FULL])
def test_good_files_fit_the_schema(text: str) -> None:
    schema = json_schema()
    assert _check(tomllib.loads(text), schema, schema)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("format = 1", "format = 2"),
        ("format = 1", "sormat = 1"),
        ('name = "librispeech"', 'name = "../x"'),
        ("batch_size = 8", "batch_size = 0"),
        ('dtype = "int8"', 'dtype = "int4"'),
        ('checkpoint = "10 min"', 'checkpoint = "10 minutes"'),
        ('memory_limit = "3 GiB"', 'memory_limit = "3"'),
        ('stages = "all"', 'stages = "some"'),
        ('target = "librispeech" ', ""),
    ],
)
def test_bad_files_do_not(good: str, bad: str) -> None:
    schema = json_schema()
    assert good in FULL
    assert not _check(tomllib.loads(FULL.replace(good, bad)), schema, schema)


def test_it_is_json_of_the_draft_that_it_names() -> None:
    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "stagewise pipeline file"
    assert "null" not in json.dumps(schema)


def test_what_may_be_left_out() -> None:
    schema = json_schema()
    required = {name: table.get("required", []) for name, table in schema["$defs"].items()}
    assert schema["required"] == ["format", "pipeline", "data", "stage"]
    assert required == {
        "Data": ["target"],
        "Defaults": [],
        "Objective": [],
        "Probe": ["name"],
        "ProbeDefaults": [],
        "Settings": ["name"],
        "Spec": ["target"],
        "Stage": ["name"],
        "Store": [],
        "Train": [],
    }


def _properties(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        for name, inner in node.get("properties", {}).items():
            yield name, inner
        for inner in node.values():
            yield from _properties(inner)


def test_every_key_is_described() -> None:
    found = dict(_properties(json_schema()))
    assert len(found) > 30
    for name, node in found.items():
        assert node.get("description", "").endswith("."), name


def test_every_table_of_the_models_is_closed_or_takes_arguments() -> None:
    schema = json_schema()
    open_tables = {name for name, table in schema["$defs"].items() if table["additionalProperties"] is not False}
    assert open_tables == {"Spec", "Data", "Objective"}
    assert set(schema["properties"]) == set(PipelineFile.model_fields)


def test_every_pattern_has_words() -> None:
    def patterns(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            if "pattern" in node and "anyOf" not in node:
                yield node["pattern"]
            for inner in node.values():
                yield from patterns(inner)
        elif isinstance(node, list):
            for inner in node:
                yield from patterns(inner)

    units = {pattern for pattern in patterns(json_schema()) if r"\d{1,15}" in pattern}
    assert set(patterns(json_schema())) - units == set(PATTERNS)
