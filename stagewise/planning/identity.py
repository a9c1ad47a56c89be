"""What a stage's and a probe's result depends on, and nothing else: the contents of their fingerprints."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from stagewise import atomic, datasets, modules, objectives
from stagewise.config import Pipeline, Probe, Spec, files_of, resolve
from stagewise.planning.build import BuiltStage, source_hashes
from stagewise.planning.policy import Policy

# Keys of a stage's tables that change how it is computed, not what comes out.
WITHOUT_EFFECT = {"train": ("checkpoint", "precision"), "store": ("write", "compress", "keep")}

# Keys that came later, at the value that stands for what was done before them.
NOTHING = {"every": 1, "noise": 0.0}


def _described(spec: Spec | None, short_names: Mapping[str, str]) -> dict[str, Any] | None:
    """Return a class and its arguments; files that it reads are what they hold, wherever they lie."""
    if spec is None:
        return None
    table = spec.model_dump(mode="json")
    return table | _file_hashes(spec, short_names)


def _file_hashes(spec: Spec, short_names: Mapping[str, str]) -> dict[str, str]:
    """Hash the files that a class says it is made with, by argument."""
    files = files_of(resolve(spec.target, object, short_names, spec.target), spec)
    return {name: f"sha256 {_hash(str(path), *atomic.file_state(path))}" for name, path in files.items()}


def undeclared_files(pipeline: Pipeline) -> Iterator[str]:
    """Say which arguments of somebody's own classes are files that they do not name: a replaced one is not noticed."""
    for stage in pipeline.stage:
        parts = {
            "encoder": (stage.encoder, modules.SHORT_NAMES),
            "context": (stage.context, modules.SHORT_NAMES),
            "objective": (stage.objective, objectives.SHORT_NAMES),
        }
        for part, (spec, short_names) in parts.items():
            if spec is None or spec.target in short_names or spec.target.startswith("torch."):
                continue
            kind = resolve(spec.target, object, short_names, spec.target)
            for name, value in spec.arguments.items():
                declared = name in files_of(kind, spec)
                if isinstance(value, str) and not declared and os.path.isfile(value):  # noqa: PTH113 (any text will do)
                    where = pipeline.where(f"stage.{stage.name}.{part}.{name}")
                    yield (
                        f"{where}: {value} is a file, and it would not be noticed if another took its place: give "
                        f'{kind.__name__} the line file_arguments = ("{name}",).'
                    )


@lru_cache(64)
def _hash(path: str, *_: int) -> str:
    """Hash a file; one that has not been touched since is not read again."""
    return atomic.sha256_of(Path(path))


def stage_identity(pipeline: Pipeline, stage: BuiltStage, below: str, policy: Policy) -> dict[str, Any]:
    """Return what decides a stage: {"train": what decides its weights, "store": what decides its rows}.

    Args:
        pipeline: for the seed and the held-out part.
        stage: with its precision resolved.
        below: fingerprint of the stage below, or of the data set for the first one, which also depends on the source
            of a data set of one's own.
        policy: of its store.
    """
    config = stage.config
    train = config.train.model_dump(mode="json", exclude=set(WITHOUT_EFFECT["train"]))
    for name, nothing in NOTHING.items():
        if train.get(name) == nothing:
            del train[name]
    specs = [(config.encoder, modules.SHORT_NAMES), (config.context, modules.SHORT_NAMES)]
    if config is pipeline.stage[0]:
        specs.append((pipeline.data, datasets.SHORT_NAMES))
    identity: dict[str, Any] = {
        "name": config.name,
        "below": below,
        "seed": pipeline.pipeline.seed,
        "validation": pipeline.data.validation,
        "encoder": _described(config.encoder, modules.SHORT_NAMES),
        "context": _described(config.context, modules.SHORT_NAMES),
        "objective": _described(config.objective, objectives.SHORT_NAMES),
        "train": {
            **train,
            "precision": stage.precision,
            "optimizer": _described(config.train.optimizer, {}),
        },
        **source_hashes([*specs, (config.objective, objectives.SHORT_NAMES), (config.train.optimizer, {})]),
    }
    if config is pipeline.stage[0] and (files := _file_hashes(pipeline.data, datasets.SHORT_NAMES)):
        identity["files of the data"] = files
    store: str | None = config.store.dtype if policy.write else None
    if store and stage.grid and len(stage.row_shape) == 1:
        store = f"{store}, means of patches"
    return {"train": identity, "store": store}


def start_identity(pipeline: Pipeline, stages: Sequence[BuiltStage], stores: Sequence[str | None]) -> dict[str, Any]:
    """Return what decides the rows of stages at their random start; how they are trained does not.

    Args:
        pipeline: for the seed.
        stages: from the input up, with their precision resolved.
        stores: dtypes of the stores that their rows are rounded as by, if any.
    """
    rounded = [dtype if dtype != "float32" else None for dtype in stores]
    return {
        "seed": pipeline.pipeline.seed,
        **({"stores": rounded} if any(rounded) else {}),
        "stages": [
            {
                "name": stage.config.name,
                "encoder": _described(stage.config.encoder, modules.SHORT_NAMES),
                "context": _described(stage.config.context, modules.SHORT_NAMES),
                "precision": stage.precision,
                **source_hashes((part, modules.SHORT_NAMES) for part in (stage.config.encoder, stage.config.context)),
            }
            for stage in stages
        ],
    }


def probe_identity(pipeline: Pipeline, probe: Probe, stage: str, data: str, labels: str, device: str) -> dict[str, Any]:
    """Return what decides a probe on a stage.

    Args:
        pipeline: for the seed.
        probe: its table.
        stage: fingerprint of the stage, or of its random start.
        data: fingerprint of the data set.
        labels: fingerprint of its labels.
        device: kind of device, because another one gives other last bits.
    """
    table = probe.model_dump(mode="json", exclude={"stages", "data", "random"})
    spec = probe.data or pipeline.data
    sources = source_hashes([(spec, datasets.SHORT_NAMES), (probe.optimizer, {})])
    files = _file_hashes(spec, datasets.SHORT_NAMES)
    return {
        "probe": table,
        "seed": pipeline.pipeline.seed,
        "stage": stage,
        "data": data,
        "labels": labels,
        "device": device,
        **sources,
        **({"files of the data": files} if files else {}),
    }


def means_identity(pipeline: Pipeline, probe: Probe, stage: str, data: str, device: str) -> dict[str, Any]:
    """Return what decides the mean rows of items at a stage, which all probes of items share.

    Args:
        pipeline: for its data set.
        probe: for its own data set.
        stage: fingerprint of the stage, or of its random start.
        data: fingerprint of the data set.
        device: kind of device, because another one gives other last bits.
    """
    spec = probe.data or pipeline.data
    files = _file_hashes(spec, datasets.SHORT_NAMES)
    sources = source_hashes([(spec, datasets.SHORT_NAMES)])
    return {"means of items": stage, "data": data, "device": device, **sources, "files of the data": files}
