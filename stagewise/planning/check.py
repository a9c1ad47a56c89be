"""What the stages of a plan may not ask for: known before anything runs, and said with the key's place."""

from __future__ import annotations

from collections.abc import Sequence

from stagewise.config import Pipeline
from stagewise.datasets.base import Dataset, Expected
from stagewise.errors import ConfigError, DataError
from stagewise.objectives.base import Supervised
from stagewise.planning.stage_plan import StagePlan

SHARED = ("epochs", "batch_size", "patience", "windows_per_item", "checkpoint")  # by stages in sync


def check_stages(pipeline: Pipeline, stages: Sequence[StagePlan], size: Dataset | Expected) -> None:
    """Refuse labels of the wrong kind, and what has no meaning for images or in a stage's schedule.

    Raises:
        ConfigError: there is such a key.
        DataError: there is nothing that an objective could learn from.
    """
    for stage in stages:
        _check_kind(pipeline, stage, size)
        if len(stage.together) > 1:
            _check_in_sync(pipeline, stage, stages[stage.together[-1]])
        elif stage.built.config.train.every != 1 and pipeline.pipeline.schedule == "iterative":
            where = pipeline.where(f"stage.{stage.name}.train.every")
            raise ConfigError(f'{where}: needs pipeline.schedule = "simultaneous"; leave it out.')


def _check_kind(pipeline: Pipeline, stage: StagePlan, size: Dataset | Expected) -> None:
    objective, key = stage.built.objective, f"stage.{stage.name}"
    if stage.built.grid and stage.built.config.train.windows_per_item == "cover":
        where = pipeline.where(f"{key}.train.windows_per_item")
        raise ConfigError(f'{where}: "cover" is for recordings; give images a number.')
    if not isinstance(objective, Supervised) or not isinstance(size, Dataset):
        return
    kind = size.label_kind(objective.labels)
    if (kind == "frames") != objective.per_row:
        needed, given = ("frame", "item") if objective.per_row else ("item", "frame")
        raise ConfigError(
            f"{pipeline.where(f'{key}.objective')}: it needs one class per {needed}, and label "
            f"'{objective.labels}' is one per {given}. Set its `pool` to suit, or name another label."
        )
    if kind == "item" and (size.item_labels(objective.labels)[size.split("train")] < 0).all():
        raise DataError(
            f"{pipeline.where(f'{key}.objective')}: no training item has a label '{objective.labels}'. Give the data "
            "its labels (images lie in one folder per class), or choose an objective that needs none."
        )


def _check_in_sync(pipeline: Pipeline, stage: StagePlan, top: StagePlan) -> None:
    train, key = stage.built.config.train, f"stage.{stage.name}"
    if train.noise:
        raise ConfigError(
            f"{pipeline.where(f'{key}.train.noise')}: is for stages that are trained alone; leave it out, or set "
            'pipeline.schedule = "iterative".'
        )
    if stage is not top and stage.built.module.recurrent:
        raise ConfigError(
            f"{pipeline.where(key)}: only the topmost of stages that are trained in sync may be recurrent. Move it to "
            'the top, or set pipeline.schedule = "iterative".'
        )
    for name in SHARED:
        if getattr(train, name) != getattr(top.built.config.train, name):
            where = pipeline.where(f"{key}.train.{name}")
            raise ConfigError(f"{where}: stages that are trained in sync have one {name}; set it in [defaults.train].")
