"""Which probes a plan asks for, on which stages and data, and which of them are already there.

A probe that asks for it is also fitted on the random start of the same stages, which knows nothing of the data.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from stagewise import durable
from stagewise.arrays import Ints
from stagewise.datasets.base import BadItem, Dataset
from stagewise.datasets.construct import build_dataset, check_labelled, own_label, some_classes
from stagewise.datasets.images import Images
from stagewise.datasets.tables import has_label, label_facts
from stagewise.errors import ConfigError, DataError
from stagewise.pipeline import Probe
from stagewise.pipeline.identity import fingerprint
from stagewise.planning.build import check_optimizer, make_optimizer
from stagewise.planning.changes import means_identity, probe_identity, start_identity
from stagewise.planning.facts import read_labels
from stagewise.planning.plan import Plan
from stagewise.planning.stage_plan import StagePlan
from stagewise.probing.features import Features, PooledFeatures, RowFeatures
from stagewise.probing.fit import ProbeJob, no_rows, run_probe
from stagewise.probing.rows import MEMORY_BYTES, LabelledRows, MeanRows, Rows, read_items, stores_below
from stagewise.runs.items import ItemMeans
from stagewise.runs.records import RESULT, WEIGHTS, probe_problems, read_probe, same_weights
from stagewise.signals import Stop
from stagewise.text import counted
from stagewise.training.windows import Alignment

CUT = ("row_shape", "patch", "stride", "crop", "mean", "std")  # what makes rows of an image


@dataclass(frozen=True)
class PlannedProbe:
    """One probe on one stage, as it is trained or as it was before.

    Attributes:
        probe: as in the pipeline file.
        position: of the stage.
        stage: its name.
        dataset: whose labels are predicted.
        fingerprint: of everything that decides the result.
        folder: of the result.
        random: whether the stage is at its random start.
        means: fingerprint of the mean rows of items that it reads, None of a probe of rows.
        means_folder: where they are kept.
    """

    probe: Probe
    position: int
    stage: str
    dataset: Dataset
    fingerprint: str
    folder: Path
    random: bool
    means: str | None
    means_folder: Path

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
            "means": self.means and self.means_folder.name,
        }


def planned_probes(plan: Plan) -> list[PlannedProbe]:
    """List every probe on every stage it reads; labels that are not there are errors now, not after days.

    Raises:
        DataError: a label or a probe's own data set is missing.
    """
    planned = []
    datasets = {"null": plan.data}  # by what asks for them: probes may share one of their own
    for probe in plan.pipeline.probe:
        where, spec = f"probe.{probe.name}", probe.data or plan.pipeline.data
        key = json.dumps(probe.data and probe.data.model_dump(mode="json"))
        if probe.data is not None and key not in datasets:
            datasets[key] = build_dataset(probe.data, plan.pipeline.where(f"{where}.data"))
        dataset = datasets[key]
        images = isinstance(dataset, Images)
        other = [name for name in CUT if getattr(dataset, name, None) != getattr(plan.data, name, None)]
        if images != isinstance(plan.data, Images) or (images and other):
            raise ConfigError(
                f"{plan.pipeline.where(f'{where}.data')}: its rows are of shape {dataset.row_shape}, those the stages "
                f"are trained on of {plan.data.row_shape}; {', '.join(other)} differ. Give it the same patch, stride, "
                "crop, grayscale, mean and std as [data]."
            )
        if (dataset.row_shape, dataset.sample_rate) != (plan.data.row_shape, plan.data.sample_rate):
            raise ConfigError(
                f"{plan.pipeline.where(f'{where}.data')}: its items have {counted(dataset.channels, 'channel')} at "
                f"{dataset.sample_rate} samples per second, those the stages are trained on {plan.data.channels} at "
                f"{plan.data.sample_rate}. Set its resample = true or mono = true, or choose other data."
            )
        try:
            kind = dataset.label_kind(probe.labels)
        except DataError as error:
            raise DataError(f"{plan.pipeline.where(f'{where}.labels')}: {error}") from None
        if (kind == "item") != (probe.pool is not None):
            raise ConfigError(
                f"{plan.pipeline.where(where)}: label '{probe.labels}' is one class per "
                + ('item: set pool = "mean" or "mean+std".' if probe.pool is None else "frame: leave out `pool`.")
            )
        if probe.pool is not None and probe.label_offset != Probe.model_fields["label_offset"].default:
            raise ConfigError(
                f"{plan.pipeline.where(f'{where}.label_offset')}: is for labels per row; with `pool` leave it out."
            )
        check_labelled(probe, dataset)
        check_optimizer(probe.optimizer, plan.pipeline.where(f"{where}.optimizer"), (1, 2))  # of a linear layer
        data, labels = dataset.fingerprint(), dataset.label_fingerprint(probe.labels)
        seed, device = plan.pipeline.pipeline.seed, plan.device.type
        for position, stage in enumerate(plan.stages):
            if probe.stages != "all" and stage.name not in probe.stages:
                continue
            _check_rows(probe, dataset, stage)
            reads = {False: stage.fingerprint}
            built = [below.built for below in plan.stages[: position + 1]]
            if probe.random and plan.is_trained(position):
                stores = stores_below(plan, position) if probe.data is None else ()
                reads = {True: fingerprint(start_identity(seed, built, stores))} | reads
            for random, weights in reads.items():
                name = f"{stage.name}{'-random' if random else ''}"
                digest = fingerprint(probe_identity(probe, spec, seed, weights, data, labels, device))
                means = fingerprint(means_identity(spec, probe.pool, weights, data, device))
                planned.append(
                    PlannedProbe(
                        probe,
                        position,
                        stage.name,
                        dataset,
                        digest,
                        plan.run.probe(probe.name, name, digest),
                        random,
                        means if probe.pool else None,
                        plan.run.probe("means", name, means),
                    )
                )
    return planned


def plan_labels(plan: Plan, planned: Sequence[PlannedProbe]) -> list[dict[str, Any]]:
    """Return what is known of every label of the data, and of those that probes read from data of their own."""
    found = label_facts(plan.data, read_labels(plan))
    for probe, dataset in {each.probe.name: (each.probe, each.dataset) for each in planned}.values():
        if probe.data is not None:
            own = [fact for fact in label_facts(dataset, {probe.labels}) if fact["name"] == probe.labels]
            found += [fact | {"name": own_label(probe)} for fact in own]
    return found


def probes_left_out(planned: Sequence[PlannedProbe]) -> tuple[list[str], list[BadItem]]:
    """Say what is left out of the data of their own that probes read; return the bad files alone, too."""
    words, bad = list[str](), list[BadItem]()
    for probe, dataset in {each.probe.name: (each.probe, each.dataset) for each in planned}.values():
        if probe.data is not None:
            words += [f"probe {probe.name}: left out {item.path}: {item.reason}" for item in dataset.bad]
            words += [f"probe {probe.name}: {note}" for note in dataset.notes]
            bad += [replace(item, key=f"{item.key} (of the probe {probe.name})") for item in dataset.bad]
    return words, bad


def _check_rows(probe: Probe, dataset: Dataset, stage: StagePlan) -> None:
    """Refuse recordings that are all too short for a row of a stage, before it is trained for them."""
    rows = {length: stage.built.geometry.rows(length) for length in set(dataset.lengths.tolist())}
    long = np.array([rows[length] > 0 for length in dataset.lengths.tolist()], bool)
    for part, items in (("training", dataset.split("train")), ("test", dataset.split("test"))):
        if not some_classes(dataset, probe.labels, items[long[items]]):
            raise no_rows(probe, part, stage.name)


def run_probes(
    plan: Plan, planned: Sequence[PlannedProbe], again: str | None, stop: Stop, report: Callable[..., None]
) -> bool:
    """Fit the probes whose results are not there, of the weights that are there, and return whether there were any.

    Args:
        plan: of stages that are done.
        planned: its probes.
        again: name of the one probe to fit in any case; "" for all of them, None for none.
        stop: asked after every step.
        report: told what happens.

    Raises:
        IntegrityError: a result is damaged.
        NumberError: a representation is NaN or infinite, or a probe diverges.
        Interrupted: a signal asked to stop; what is fitted, and the means of items, stay.
    """
    todo = [each for each in planned if again in ("", each.probe.name) or not _is_fitted(plan, each, report)]
    for probe in {each.probe.name: each.probe for each in todo}.values():
        if once := plan.untrained(probe):
            words = f"{', '.join(once)} read once, since nothing is trained there: it was the same before training."
            report("note", text=f"probe {probe.name}: {words}")
    rows, means = Rows(plan, stop), dict[Path, MeanRows]()
    for each in todo:
        if each.means is not None:
            (items, _), old = _examples(plan, each), means.get(each.means_folder)
            kept = ItemMeans(each.means_folder, each.means, _weights(plan, each)) if old is None else old.means
            names = (*(old.probes if old else ()), each.probe.name)
            items = kept.missing(items) if old is None else np.union1d(old.items, kept.missing(items))
            means[each.means_folder] = MeanRows(
                names, each.stage, each.position, each.dataset, each.random, items, kept, each.probe.pool or "mean"
            )
    for some in _passes(plan, rows, todo):
        labelled = _labelled(plan, rows, some)
        read_items(rows, [*means.values(), *labelled.values()], stop, report)
        for each in some:
            _fit(plan, each, _features(plan, rows, each, means, labelled), stop, report)
    return bool(todo)


def _features(
    plan: Plan,
    rows: Rows,
    planned: PlannedProbe,
    means: Mapping[Path, MeanRows],
    labelled: dict[Path, LabelledRows],
) -> Features:
    dataset, labels = planned.dataset, planned.probe.labels
    if planned.means is not None:
        items, _ = _examples(plan, planned)
        return PooledFeatures(items, means[planned.means_folder].means, dataset.item_labels(labels))
    chain, found = rows.chain(dataset, planned.position, planned.random), labelled.pop(planned.folder, None)
    rows_NC = None if found is None else found.rows_NC
    return RowFeatures(chain, dataset, labels, _alignment(plan, planned), rows_NC)


def _alignment(plan: Plan, planned: PlannedProbe) -> Alignment:
    return Alignment(plan.stages[planned.position].built.geometry, planned.probe.label_offset)


def _row_bytes(plan: Plan, planned: PlannedProbe) -> int:
    """Return how many bytes the rows of all labelled frames take, at most."""
    table = planned.dataset.labels[planned.probe.labels]
    return table.classes.size * plan.stages[planned.position].built.module.c_channels * 4


def _passes(plan: Plan, rows: Rows, todo: Sequence[PlannedProbe]) -> Iterator[Sequence[PlannedProbe]]:
    """Cut probes into those that are read in one pass: their rows may fill half of the free disk."""
    some, filled = list[PlannedProbe](), 0
    room = shutil.disk_usage(plan.run.path).free // 2
    for each in todo:
        there = each.means is not None or rows.lie_in_a_store(each.dataset, each.position, each.random)
        size = 0 if there else _row_bytes(plan, each)
        if filled and size and filled + size > room:
            yield some
            some, filled = [], 0
        some.append(each)
        filled += size
    yield some


def _labelled(plan: Plan, rows: Rows, some: Sequence[PlannedProbe]) -> dict[Path, LabelledRows]:
    """Return what is to be read for probes of rows: of few, and of those that would have to be computed."""
    of_rows, found = [each for each in some if each.means is None], {}
    for each in of_rows:
        few = _row_bytes(plan, each) <= MEMORY_BYTES // len(of_rows)
        if few or not rows.lie_in_a_store(each.dataset, each.position, each.random):
            found[each.folder] = LabelledRows(
                (each.probe.name,),
                each.stage,
                each.position,
                each.dataset,
                each.random,
                np.flatnonzero(has_label(each.dataset.labels[each.probe.labels])),
                each.probe.labels,
                _alignment(plan, each),
                plan.run.path,
                few,
                plan.stages[each.position].built.module.c_channels,
            )
    return found


def _is_fitted(plan: Plan, planned: PlannedProbe, report: Callable[..., None]) -> bool:
    known = read_probe(planned.folder, planned.probe.name)
    if known is None:
        return False
    if problems := probe_problems(planned.folder, planned.probe.name):
        words = problems[0]
    elif not same_weights(known.get("weights"), _weights(plan, planned)):
        words = f"{planned.folder} is of weights that are gone."
    elif known.get("predictions") is None:
        words = f"{planned.folder} is of an older version, which kept no predictions."
    else:
        return True
    report("note", text=f"{words} The probe is fitted again.")
    return False


def _weights(plan: Plan, planned: PlannedProbe) -> str | None:
    """Return the sha256 of the weights that a probe is of, None of random ones."""
    record = plan.stages[planned.position].record
    assert record is not None
    return None if planned.random else str(record["files"][WEIGHTS])


def _examples(plan: Plan, planned: PlannedProbe) -> tuple[Ints, int]:
    """Return the training and test items that have a label and a row, and how many with a label have none."""
    dataset, geometry = planned.dataset, plan.stages[planned.position].built.geometry
    items = np.union1d(dataset.split("train"), dataset.split("test"))
    items = items[has_label(dataset.labels[planned.probe.labels])[items]]
    long = [length for length in set(dataset.lengths.tolist()) if geometry.rows(length) > 0]
    have = np.isin(dataset.lengths[items], long)
    return items[have], len(have) - int(have.sum())


def _fit(plan: Plan, planned: PlannedProbe, features: Features, stop: Stop, report: Callable[..., None]) -> None:
    probe, dataset, (_, too_short) = planned.probe, planned.dataset, _examples(plan, planned)
    if too_short and not planned.random:
        words = counted(too_short, "item with a label has", "items with a label have")
        report("note", text=f"probe {probe.name}: {words} no row of stage {planned.stage}: too short for one.")

    def tell(kind: str, **facts: Any) -> None:
        report(kind, probe=probe.name, stage=planned.stage, random=planned.random, **facts)

    where = plan.pipeline.where(f"probe.{probe.name}.optimizer")
    job = ProbeJob(
        probe=probe,
        stage=planned.stage,
        dataset=dataset,
        features=features,
        device=plan.device,
        optimizer=lambda module: make_optimizer(probe.optimizer, where)(module.parameters()),
        seed=plan.pipeline.pipeline.seed,
        fingerprint=planned.fingerprint,
        weights=_weights(plan, planned),
        too_short=too_short,
    )
    durable.remove(planned.folder)
    result = run_probe(job, planned.folder, stop, tell)
    plan.run.event("probe done", name=probe.name, stage=planned.stage, value=result["value"], random=planned.random)
    report("probed", **result, random=planned.random)
