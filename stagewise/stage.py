"""Make one stage: train it (or adopt its weights), freeze it, encode the data set, and say what it cost."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stagewise import atomic
from stagewise.encoding.encode import Chain, Encoded, encode
from stagewise.environment import environment
from stagewise.errors import DiskFull, NumberError
from stagewise.inputs import input_of, load_weights
from stagewise.planning.actions import adoptable
from stagewise.planning.plan import Plan
from stagewise.planning.stage_plan import StagePlan
from stagewise.runs.left_out import SATURATED
from stagewise.runs.record import COVERED, RECORD, TRAINED, mark_trained, read_trained
from stagewise.show import bytes_text, counted
from stagewise.stopping import Stop
from stagewise.stores import finished
from stagewise.stores.files import list_files
from stagewise.stores.layout import STORE
from stagewise.train_stages import train_stages

EXACT = 20.0  # decibels from a channel's variance to that of its rounding in int8: below, a hundredth of it is noise
KEPT = ("train", "memory", "health", "below")  # what training leaves, whatever is encoded with the weights


def carry_out(plan: Plan, position: int, stop: Stop, report: Callable[..., None]) -> dict[str, Any]:
    """Make a stage inside its folder and return what its record says; nothing is committed here.

    Raises:
        StagewiseError: anything a user can act on.
    """
    stage = plan.stages[position]
    assert stage.folder is not None
    assert stage.fingerprint is not None
    if stage.record is not None:
        facts = stage.record
    else:
        trained = read_trained(stage.folder, stage.fingerprint)
        if trained is None and stage.action == "encode" and (older := adoptable(plan.stages, stage)) is not None:
            trained = _adopt(older, stage)
        if trained is None:
            train_stages(plan, stage.together, stop, report)
            trained = read_trained(stage.folder, stage.fingerprint)
        assert trained is not None
        facts = trained
    source, below = input_of(plan, position)
    load_weights(stage.built.module, stage.folder).to(plan.device)
    chain = Chain(source, [*below, stage.built.module], plan.device, stage.built.means)
    store = _encode(stage, chain, stop, report) if stage.policy.write else _not_written(stage)
    return {
        "index": stage.index,
        "name": stage.name,
        "fingerprint": stage.fingerprint,
        "identity": stage.identity,
        **{key: facts.get(key) for key in KEPT},
        "store": store,
        "environment": environment(plan.device),
    }


def _adopt(older: Path, stage: StagePlan) -> dict[str, Any] | None:
    """Take over the weights of an older folder."""
    assert stage.folder is not None
    assert stage.fingerprint is not None
    assert stage.identity is not None
    for name in COVERED[:2]:
        atomic.write_bytes(stage.folder / name, atomic.read_bytes(older / name))
    name = RECORD if (older / RECORD).exists() else TRAINED
    record = atomic.read_sealed(older / name, "")
    facts = {key: record.get(key) for key in KEPT}
    mark_trained(stage.folder, stage.fingerprint, stage.identity, facts)
    return read_trained(stage.folder, stage.fingerprint)


def _encode(stage: StagePlan, chain: Chain, stop: Stop, report: Callable[..., None]) -> dict[str, Any]:
    assert stage.folder is not None
    assert stage.fingerprint is not None
    manifest = finished(stage.folder, stage.fingerprint)
    if manifest is None:
        if missing := _missing_bytes(stage):
            report(
                "note",
                text=f"stage {stage.name}: its store needs up to {bytes_text(missing)} more than the disk has left.",
            )
        try:
            encoded = encode(
                chain,
                stage.folder,
                stage.built.config.store.dtype,
                stage.policy.compress,
                stage.fingerprint,
                stop,
                lambda kind, **facts: report(kind, stage=stage.name, **facts),
            )
        except NumberError as error:
            raise NumberError(f"stage {stage.name}: {error}") from None
        except DiskFull as error:
            missing = _missing_bytes(stage)
            more = f" The rest of this store needs up to {bytes_text(missing)} more." if missing else ""
            raise DiskFull(f"{error}{more}") from error
    else:  # a kill came between the manifest and the record
        encoded = Encoded(manifest, 0.0, 0.0)
    manifest = encoded.manifest
    values = manifest.rows * math.prod(manifest.row_shape)
    if manifest.saturated > SATURATED * values:
        report(
            "note",
            text=f"stage {stage.name}: {manifest.saturated / values:.2%} of its values lie outside the range that int8 "
            "was calibrated for, and were cut to its ends. Are some items much louder than the others? "
            f'`--set stage.{stage.name}.store.dtype="float16"` keeps them as they are.',
        )
    worst = _worst_channel(stage, encoded, report)
    return {
        "state": "written",
        "why": stage.policy.why,
        "dtype": manifest.dtype,
        "compress": manifest.compress,
        "rows": manifest.rows,
        "bytes": manifest.bytes,
        "float32_bytes": manifest.float32_bytes,
        "saturated": manifest.saturated,
        "worst_channel": worst,
        "seconds": encoded.seconds,
        "forward_seconds": encoded.forward_seconds,
    }


def _worst_channel(stage: StagePlan, encoded: Encoded, report: Callable[..., None]) -> dict[str, Any] | None:
    """Return which channel int8 keeps least exactly, and how exactly, and warn where that is coarse."""
    found = encoded.calibration
    if found is None or not math.isfinite(found.worst[1]):
        return None
    channel, decibels = found.worst
    if decibels < EXACT:
        coarse = int((found.sqnr_C < EXACT).sum())
        report(
            "note",
            text=f"stage {stage.name}: int8 keeps {coarse:,} of {counted(len(found.sqnr_C), 'channel')} coarsely, "
            f"channel {channel} the worst, with {decibels:.0f} dB from its variance to that of its rounding: some "
            "values are far larger than the others. "
            f'`--set stage.{stage.name}.store.dtype="float16"` keeps them as they are.',
        )
    return {"channel": channel, "sqnr_db": round(decibels, 1)}


def _missing_bytes(stage: StagePlan) -> int:
    """Return how many bytes the rest of a stage's store needs beyond those that are free; uncompressed."""
    assert stage.folder is not None
    written = sum(list_files(stage.folder / STORE).values())
    return max(0, stage.store_bytes() - written - shutil.disk_usage(stage.folder).free)


def _not_written(stage: StagePlan) -> dict[str, Any]:
    return {
        "state": "recomputed",
        "why": stage.policy.why,
        "dtype": stage.built.config.store.dtype,
        "rows": stage.rows,
        "bytes": 0,
        "float32_bytes": stage.store_bytes("float32"),
        "seconds": 0.0,
        "forward_seconds": 0.0,
    }
