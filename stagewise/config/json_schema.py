"""The JSON Schema of the pipeline file, for editors that complete and check TOML."""

from __future__ import annotations

from typing import Any

from stagewise.config.schema import PipelineFile


def json_schema() -> dict[str, Any]:
    """Return the schema (Draft 2020-12) of the file as it is written, before defaults are merged."""
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
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "stagewise pipeline file",
    }


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
