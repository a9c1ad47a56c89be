"""Short names that installed packages give: each becomes the full name of its class when a pipeline is loaded.

So that fingerprints and pipeline.lock.json say which class it was, whatever another version of the package means by it.
"""

from __future__ import annotations

from typing import Any

from stagewise.config.keys import KeyPath
from stagewise.config.problems import Report
from stagewise.config.source import Source
from stagewise.config.wording import shown
from stagewise.errors import ConfigError
from stagewise.short_names import DATASETS, MODULES, OBJECTIVES

PLUGGED = {
    ("data",): DATASETS,
    ("stage", "encoder"): MODULES,
    ("stage", "context"): MODULES,
    ("stage", "objective"): OBJECTIVES,
    ("probe", "data"): DATASETS,
}


def with_full_names(node: Any, source: Source, report: Report, path: KeyPath = ()) -> Any:
    """Return a merged pipeline with full names in place of the short ones of installed packages.

    Args:
        node: the pipeline, or what lies in it at `path`; what has not the right shape is left as it is.
        source: told what was meant, for messages.
        report: told of names that two packages give, and of packages that give a built-in one.
        path: of the node.
    """
    names = PLUGGED.get(tuple(step for step in path if isinstance(step, str)))
    if isinstance(node, dict) and names is not None:
        target = node.get("target")
        if not isinstance(target, str) or ":" in target or target in names:
            return node
        try:
            found = names.installed().get(target, [])
        except ConfigError as error:
            report.add((*path, "target"), str(error))
            return node
        if len(found) > 1:
            packages = " and ".join(package for _, package in found)
            report.add((*path, "target"), f'{shown(target)} is given by {packages}: write "package.module:Class"')
        if len(found) != 1:
            return node
        source.meant[path] = f"{shown(target)} of {found[0].package}"
        return {**node, "target": found[0].target}
    if isinstance(node, dict) and len(path) < 3:
        return {key: with_full_names(value, source, report, (*path, key)) for key, value in node.items()}
    if isinstance(node, list) and len(path) == 1:
        return [with_full_names(value, source, report, (*path, index)) for index, value in enumerate(node)]
    return node
