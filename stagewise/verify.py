"""Verify what a run holds: every byte against its hash, and the rows against the data they came from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from stagewise.datasets.base import Dataset
from stagewise.datasets.construct import build_dataset, dataset_kind, own_label
from stagewise.errors import ConfigError, DataError, IntegrityError
from stagewise.frozen.open import open_run
from stagewise.pipeline import Pipeline, Spec
from stagewise.runs.folder import RunFolder
from stagewise.runs.items import FACTS, Items, means_problem, read_items
from stagewise.runs.records import DATA, PREDICTIONS, RESULT, probe_problems, read_data, read_record
from stagewise.stores import StoreReader, verify_store
from stagewise.stores.layout import STORE

if TYPE_CHECKING:
    from stagewise.encoding.encode import Chain

# Read every byte of a run again: its data's record, items, weights, metrics, stores, probes.


def verify_run(run: RunFolder, report: Callable[..., None]) -> tuple[list[str], int]:
    """Return what is wrong, each with its path and what to type, and how many files were read."""
    problems: list[str] = []
    files = 1
    try:
        locked = run.locked or {}
    except IntegrityError as error:
        return [str(error)], files
    try:
        files += (run.path / DATA).exists()
        read_data(run)
    except IntegrityError as error:
        problems.append(str(error))
    try:
        files += read_items(run) is not None
    except IntegrityError as error:
        problems.append(str(error))
    for stage in locked["stages"]:
        folder = run.path / "stages" / str(stage["folder"])
        try:
            record = read_record(folder)
        except IntegrityError as error:
            problems.append(str(error))
            continue
        if record is None:
            report("note", text=f"stage {stage['name']} is not finished: what there is of it was not read.")
            continue
        files += 1 + len(record["files"])
        if record["store"]["state"] == "written":
            name = stage["name"]
            problems += verify_store(folder, partial(_report, report, name))
            files += sum(1 for path in (folder / STORE).rglob("*") if path.is_file())
    for probe in locked.get("probes", []):
        folder = run.path / "probes" / probe["folder"]
        if (folder / RESULT).exists():
            files += 2 + (folder / PREDICTIONS).exists()
            problems += probe_problems(folder, probe["name"])
    for means in dict.fromkeys(probe["means"] for probe in locked.get("probes", []) if probe.get("means")):
        folder = run.path / "probes" / means
        files += 2 * (folder / FACTS).exists()
        problems += filter(None, [means_problem(folder)])
    return problems, files


def _report(report: Callable[..., None], stage: str, done: int, of: int) -> None:
    report("verify", stage=stage, bytes=done, of=of)


# Is the data still what a run was made of? Its items are compared, and the rows of the lowest store computed again.
#
# A data set's fingerprint knows names and sizes of files, not their bytes: a file that was replaced by another of the
# same size shows in its rows alone.

# What two machines, or float16, may differ by: of the largest value of a piece of an item, or steps of int8.
SHARE, STEPS = 0.02, 2
ADVICE = "Put the old files back, or type `stagewise run FILE` to make what depends on them again."


def verify_data(pipeline: Pipeline, run: RunFolder, report: Callable[..., None]) -> list[str]:
    """Return a sentence for every item that is gone, new, or gives other rows than stored, and each label that changed.

    Args:
        pipeline: that the run was made with.
        run: the run directory.
        report: told how many items are compared.

    Raises:
        ConfigError: no stage has a store to compare with.
        DataError: the data is not there.
        IntegrityError: the store or weights are damaged, or files of the data cannot be read any more.
    """
    from stagewise.encoding.encode import Chain  # bytes are verified without torch
    from stagewise.training.feed import RawSource

    opened = open_run(run.path)
    written = [stage for stage in opened.stages.values() if stage.record["store"]["state"] == "written"]
    if not written:
        raise ConfigError(
            f"{run.path} has no store that the data could be compared with: its stages are recomputed, or not finished."
        )
    if not dataset_kind(pipeline.data, pipeline.where("data")).is_there(**pipeline.data.arguments):
        raise DataError(f"{run.path}: the data that it was made of is not there: type `stagewise run FILE` to see why.")
    dataset = _built(run, pipeline.data, pipeline.where("data"), report)
    recorded, items = read_data(run), read_items(run)
    same = recorded is None or recorded["fingerprint"] == dataset.fingerprint()
    if items is None and same:
        items = Items(dataset.keys, dataset.lengths, {})  # its fingerprint knows them
    if items is None:
        raise IntegrityError(
            f"the data is not what {run.path} was made of ({recorded and recorded['items']} items then, {len(dataset)} "
            f"now), and the run is older than that keys of items are kept: which have changed cannot be said. {ADVICE}"
        )
    problems, places = _compare(items, dataset)
    device, stage = opened.device(), written[0]
    modules = [*opened.encoder(stage.name).to(device).stages]
    with StoreReader(stage.folder) as store:
        means = len(store.row_shape) < len(modules[-1].out_shape)
        chain = Chain(RawSource(dataset), modules, device, means)
        for done, (then, now) in enumerate(places.items(), 1):
            if not _same(chain, now, store, then):
                problems.append(
                    f"{items.keys[then]} is not the file that stage {stage.name} was made of: its rows differ from "
                    f"those in {stage.folder}. Put the old file back, or type `stagewise run FILE --fresh`."
                )
            report("compare", stage=stage.name, items=done, of=len(places))
    if problems and dataset.labels:
        report("note", text="labels were not compared, as there are other items.")
    problems += _other_labels(run, pipeline, None if problems else dataset, recorded)
    if not same and not problems:
        problems.append(
            "the fingerprint of the data set is another, though all items give the same rows: files have other sizes, "
            f"or it is made with other settings. {ADVICE}"
        )
    return problems


def _compare(items: Items, dataset: Dataset) -> tuple[list[str], dict[int, int]]:
    """Say which items are gone, new, or of another length; return the others' places then and now."""
    now, problems, places = {key: place for place, key in enumerate(dataset.keys)}, list[str](), dict[int, int]()
    left_out = {item.key: item.reason for item in dataset.bad}
    for then, (key, length) in enumerate(zip(items.keys, items.lengths.tolist(), strict=True)):
        place = now.pop(key, None)
        if place is None:
            why = f"cannot be used any more ({left_out[key]})" if key in left_out else "is not there any more"
            problems.append(f"{key} {why}. {ADVICE}")
        elif (found := int(dataset.lengths[place])) != length:
            problems.append(f"{key} is another: it is {found:,} long, and was {length:,}. {ADVICE}")
        else:
            places[then] = place
    new = "was not there when the run was made. Take it away, or type `stagewise run FILE`."
    problems += [f"{key} {new}" for key in now]
    if not problems and items.splits:  # else others may have taken its place
        tested_N = np.zeros(len(dataset), bool)
        tested_N[(dataset.split("test")[:, None] + np.arange(dataset.views)).ravel()] = True
        was_N = next(iter(items.splits.values())) == "test"
        for then, place in places.items():
            if was_N[then] != tested_N[place]:
                changed = "was for testing, and is not now" if was_N[then] else "is for testing now, and was not"
                problems.append(f"{items.keys[then]} {changed}. {ADVICE}")
    return problems, places


def _built(run: RunFolder, spec: Spec, where: str, report: Callable[..., None] | None = None) -> Dataset:
    try:
        return build_dataset(spec, where, report)
    except DataError as error:
        raise IntegrityError(f"the data is not what {run.path} was made of: {error}") from None


def _other_labels(
    run: RunFolder, pipeline: Pipeline, dataset: Dataset | None, recorded: dict[str, Any] | None
) -> list[str]:
    """Say which labels are not those that the run was made with: of its data, and of the data that probes have."""
    now = {} if dataset is None else {name: dataset.label_fingerprint(name) for name in dataset.labels}
    for probe in pipeline.probe:
        if probe.data is not None:
            own = _built(run, probe.data, pipeline.where(f"probe.{probe.name}.data"))
            now[own_label(probe)] = own.label_fingerprint(probe.labels)
    then = {fact["name"]: fact.get("fingerprint") for fact in (recorded or {}).get("labels", [])}
    return [
        f"label {name} is another: items have other classes than when the run was made. Put the old labels back, or "
        "type `stagewise run FILE` to make what depends on them again."
        for name, digest in now.items()
        if then.get(name) not in (None, digest)
    ]


def _same(chain: Chain, item: int, store: StoreReader, stored_item: int) -> bool:
    """Whether an item's rows are those of an item of the store."""
    row, length = 0, int(store.lengths[stored_item])
    for rows in chain.rows(item):
        if row + len(rows) > length:
            return False
        stored = np.empty(rows.shape, store.dtype)
        store.read_raw(stored_item, row, stored)
        row += len(rows)
        if store.scaling is not None:
            near = np.abs(store.scaling.quantise(rows)[0].astype(np.int16) - stored) <= STEPS
        else:
            near = np.abs(rows - stored) <= SHARE * np.abs(rows).max(initial=0)
        if not near.all():
            return False
    return row == length
