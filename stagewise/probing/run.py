"""Which probes a plan asks for, on which stages and data, and which of them are already there.

A probe that asks for it is also fitted on the random start of the same stages, which knows nothing of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stagewise import atomic
from stagewise.config import Probe
from stagewise.config.fingerprint import fingerprint
from stagewise.datasets.base import Dataset
from stagewise.datasets.images import Images
from stagewise.datasets.labelled import label_facts
from stagewise.encoding.encode import Chain
from stagewise.errors import ConfigError, DataError
from stagewise.inputs import input_of, load_weights
from stagewise.modules.stage_module import StageModule
from stagewise.planning.build import BuiltStage, Input, build_dataset, build_stages, make_optimizer
from stagewise.planning.check import check_labelled, some_classes
from stagewise.planning.facts import read_labels
from stagewise.planning.identity import probe_identity, start_identity
from stagewise.planning.plan import Plan
from stagewise.planning.stage_plan import StagePlan
from stagewise.probing.probe import ProbeJob, no_rows, run_probe
from stagewise.runs.probe_record import RESULT, TENSORS, probe_problem, read_probe
from stagewise.runs.record import WEIGHTS, same_weights
from stagewise.show import counted
from stagewise.stopping import Stop
from stagewise.windows.centre import CentreSource
from stagewise.windows.source import RawSource, Source

CUT = ("row_shape", "patch", "stride", "crop", "mean", "std")  # what makes rows of an image


@dataclass(frozen=True)
class PlannedProbe:
    """One probe on one stage, as it is trained or as it was before."""

    probe: Probe
    position: int
    stage: str
    dataset: Dataset
    fingerprint: str
    folder: Path
    random: bool

    @property
    def is_there(self) -> bool:
        """Whether its result is there."""
        return (self.folder / RESULT).exists()

    def locked(self) -> dict[str, Any]:
        """What `pipeline.lock.json` keeps of it."""
        return {
            "name": self.probe.name,
            "stage": self.stage,
            "labels": self.probe.labels,
            "folder": self.folder.name,
            "random": self.random,
        }


def planned_probes(plan: Plan) -> list[PlannedProbe]:
    """List every probe on every stage it reads; labels that are not there are errors now, not after days.

    Raises:
        DataError: a label or a probe's own data set is missing.
    """
    planned = []
    for probe in plan.pipeline.probe:
        where = f"probe.{probe.name}"
        assert isinstance(plan.size, Dataset)
        dataset = plan.size if probe.data is None else build_dataset(plan.pipeline, probe.data, f"{where}.data")
        images = isinstance(dataset, Images)
        other = [name for name in CUT if getattr(dataset, name, None) != getattr(plan.size, name, None)]
        if images != isinstance(plan.size, Images) or (images and other):
            raise ConfigError(
                f"{plan.pipeline.where(f'{where}.data')}: its rows are of shape {dataset.row_shape}, those the stages "
                f"are trained on of {plan.size.row_shape}; {', '.join(other)} differ. Give it the same patch, stride, "
                "crop, grayscale, mean and std as [data]."
            )
        if (dataset.row_shape, dataset.sample_rate) != (plan.size.row_shape, plan.size.sample_rate):
            raise ConfigError(
                f"{plan.pipeline.where(f'{where}.data')}: its items have {counted(dataset.channels, 'channel')} at "
                f"{dataset.sample_rate} samples per second, those the stages are trained on {plan.size.channels} at "
                f"{plan.size.sample_rate}. Set its resample = true or mono = true, or choose other data."
            )
        try:
            kind = dataset.label_kind(probe.labels)
        except DataError as error:
            raise DataError(f"{plan.pipeline.where(f'{where}.labels')}: {error}") from None
        if (kind == "item") != (probe.pool is not None):
            raise ConfigError(
                f"{plan.pipeline.where(where)}: label '{probe.labels}' is one class per "
                + ('item: set pool = "mean".' if probe.pool is None else "frame: leave out `pool`.")
            )
        check_labelled(probe, dataset)
        make_optimizer(plan.pipeline, probe.optimizer, f"{where}.optimizer")([torch.nn.Parameter(torch.zeros(1))])
        data, labels = dataset.fingerprint(), dataset.label_fingerprint(probe.labels)
        for position, stage in enumerate(plan.stages):
            if probe.stages != "all" and stage.name not in probe.stages:
                continue
            assert stage.fingerprint is not None
            _check_rows(probe, dataset, stage)
            reads = {False: stage.fingerprint}
            built = [below.built for below in plan.stages[: position + 1]]
            if probe.random and any(_is_trained(part) for part in built):
                reads = {True: fingerprint(start_identity(plan.pipeline, built))} | reads
            for random, weights in reads.items():
                identity = probe_identity(plan.pipeline, probe, weights, data, labels, plan.device.type)
                digest = fingerprint(identity)
                folder = plan.run.probe(probe.name, f"{stage.name}{'-random' if random else ''}", digest)
                planned.append(PlannedProbe(probe, position, stage.name, dataset, digest, folder, random))
    return planned


def plan_labels(plan: Plan, planned: Sequence[PlannedProbe]) -> list[dict[str, Any]]:
    """Return what is known of every label of the data, and of those that probes read from data of their own."""
    assert isinstance(plan.size, Dataset)
    found = label_facts(plan.size, read_labels(plan))
    for probe, dataset in {each.probe.name: (each.probe, each.dataset) for each in planned}.values():
        if probe.data is not None:
            own = [fact for fact in label_facts(dataset, {probe.labels}) if fact["name"] == probe.labels]
            found += [fact | {"name": f"{probe.labels} (of the probe {probe.name})"} for fact in own]
    return found


def _is_trained(stage: BuiltStage) -> bool:
    return stage.epochs > 0


def _check_rows(probe: Probe, dataset: Dataset, stage: StagePlan) -> None:
    """Refuse recordings that are all too short for a row of a stage, before it is trained for them."""
    rows = {length: stage.built.geometry.rows(length) for length in set(dataset.lengths.tolist())}
    long = np.array([rows[length] > 0 for length in dataset.lengths.tolist()], bool)
    for part, items in (("training", dataset.split("train")), ("test", dataset.split("test"))):
        if not some_classes(dataset, probe.labels, items[long[items]]):
            raise no_rows(probe, part, stage.name)


def run_planned_probe(plan: Plan, planned: PlannedProbe, stop: Stop, report: Callable[..., None]) -> bool:
    """Fit a probe unless its result is there, of the weights that are there, and return whether it was fitted.

    Raises:
        IntegrityError: the result is damaged.
    """
    probe, stage = planned.probe, plan.stages[planned.position]
    assert stage.record is not None
    weights = None if planned.random else stage.record["files"][WEIGHTS]
    known = read_probe(planned.folder, probe.name)
    if known is not None:
        fits, whole = same_weights(known.get("weights"), weights), not probe_problem(planned.folder, probe.name)
        if fits and whole:
            return False
        words = f"{planned.folder} is of weights that are gone" if whole else f"{planned.folder / TENSORS} is damaged"
        report("note", text=f"{words}: the probe is fitted again.")
        atomic.remove(planned.folder)
    job = ProbeJob(
        probe=probe,
        stage=planned.stage,
        dataset=planned.dataset,
        chain=_chain(plan, planned),
        geometry=stage.built.geometry,
        optimizer=lambda module: make_optimizer(plan.pipeline, probe.optimizer, f"probe.{probe.name}.optimizer")(
            module.parameters()
        ),
        seed=plan.pipeline.pipeline.seed,
        fingerprint=planned.fingerprint,
        weights=weights,
    )
    result = run_probe(
        job,
        planned.folder,
        stop,
        lambda kind, **facts: report(kind, probe=probe.name, stage=planned.stage, random=planned.random, **facts),
    )
    plan.run.event("probe done", name=probe.name, stage=planned.stage, value=result["value"], random=planned.random)
    report("probed", **result, random=planned.random)
    return True


def _chain(plan: Plan, planned: PlannedProbe) -> Chain:
    """Return the way to the rows that a probe reads: over the nearest store, or from the data through all stages."""
    source: Source
    stages: list[StageModule]
    if planned.random:
        assert isinstance(plan.size, Dataset)
        start = build_stages(plan.pipeline, Input.of(plan.size), plan.device)[: planned.position + 1]
        stages = [stage.module.to(plan.device).eval().requires_grad_(False) for stage in start]
        source = RawSource(planned.dataset)
    elif planned.probe.data is None:
        source, stages = input_of(plan, planned.position + 1)
    else:
        stages = []
        for stage in plan.stages[: planned.position + 1]:
            assert stage.folder is not None
            stages.append(load_weights(stage.built.module, stage.folder).to(plan.device))
        source = RawSource(planned.dataset)
    if isinstance(planned.dataset, Images):
        source = CentreSource(source, planned.dataset)
    return Chain(source, stages, plan.device, means=plan.stages[planned.position].built.grid is not None)
