"""What two pipelines are compared by: the fingerprint of what changes a result, and the JSON schema of the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from stagewise.pipeline.schema import PipelineFile
from stagewise.registry import DATASETS, MODULES, OBJECTIVES, ShortNames

# Fingerprints: sha256 over everything that changes a result, and nothing that does not.


def fingerprint(content: Mapping[str, Any]) -> str:
    """Hash JSON-able content independently of key order (sha256, 64 hex digits)."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: Any, new: Any, key: str = "") -> Iterator[str]:
    """Name the dotted keys whose values differ, each as `key: old → new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted({*old, *new}):
            yield from differences(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield f"{key}: {_short(old)} → {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "…"


# The JSON Schema of the pipeline file, for editors that complete and check TOML.


def json_schema() -> dict[str, Any]:
    """Return the schema (Draft 2020-12) of the file as it is written, before defaults are merged.

    It offers the short names of what is built in and of what is installed.

    Raises:
        ConfigError: the short names of an installed package cannot be used.
    """
    schema: dict[str, Any] = _without_null(PipelineFile.model_json_schema())
    tables = schema["$defs"]
    # What a default says, a probe need not; a default itself need not be complete.
    del tables["ProbeDefaults"]["required"]
    tables["Probe"]["required"] = ["name"]
    for table in ("Train", "Probe", "ProbeDefaults"):  # an optimizer without a target changes the default one
        tables[table]["properties"]["optimizer"] = {
            "description": tables[table]["properties"]["optimizer"]["description"],
            "type": "object",
            "properties": tables["Spec"]["properties"],
        }
    for table, key, names in (
        ("Stage", "encoder", MODULES),
        ("Stage", "context", MODULES),
        ("Probe", "data", DATASETS),
        ("ProbeDefaults", "data", DATASETS),
    ):
        target = tables["Spec"]["properties"]["target"]
        tables[table]["properties"][key]["properties"] = {"target": _offering(names, target)}
    for table, names in (("Data", DATASETS), ("Objective", OBJECTIVES)):
        properties = tables[table]["properties"]
        properties["target"] = _offering(names, properties["target"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "stagewise pipeline file",
    }


def _offering(names: ShortNames, target: dict[str, Any]) -> dict[str, Any]:
    """Add short names to what is said of a target."""
    rest = {key: value for key, value in target.items() if key not in ("pattern", "type")}
    return rest | {"anyOf": [{"enum": [*names, *names.installed()]}, {"type": "string", "pattern": target["pattern"]}]}


def _without_null(node: Any) -> Any:
    """Drop every mention of null: TOML has none, an absent key says the same."""
    if isinstance(node, list):
        return [_without_null(item) for item in node if item != {"type": "null"}]
    if not isinstance(node, dict):
        return node
    node = {key: _without_null(value) for key, value in node.items() if value is not None}
    alternatives = node.get("anyOf")
    if isinstance(alternatives, list) and len(alternatives) == 1:
        node = {key: value for key, value in node.items() if key != "anyOf"} | alternatives[0]
    return node
