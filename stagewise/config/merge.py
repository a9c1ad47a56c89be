"""The `[defaults.*]` tables merge into every stage and probe, key by key."""

from __future__ import annotations

from typing import Any

STAGE_TABLES = ("train", "objective", "store")


def overlay(base: Any, over: Any) -> Any:
    """Lay a table over another key by key; one that names its own `target` replaces the other whole."""
    if not (isinstance(base, dict) and isinstance(over, dict)) or "target" in over:
        return over
    return base | {key: overlay(base[key], value) if key in base else value for key, value in over.items()}


def with_defaults(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the parsed file with `defaults` merged away; what has not the right shape is left as it is."""
    merged = {key: value for key, value in tree.items() if key != "defaults"}
    defaults = tree.get("defaults")
    if not isinstance(defaults, dict):
        return merged
    of_stages = {table: defaults[table] for table in STAGE_TABLES if table in defaults}
    for key, base in (("stage", of_stages), ("probe", defaults.get("probe", {}))):
        if isinstance(tree.get(key), list):
            merged[key] = [overlay(base, item) if isinstance(item, dict) else item for item in tree[key]]
    return merged
