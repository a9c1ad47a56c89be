"""Write an export: a folder that is whole or not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stagewise import atomic
from stagewise.embedding.place import check_place
from stagewise.exporting.card import model_card
from stagewise.exporting.program import check_onnx, write_onnx, write_program
from stagewise.exporting.settings import CARD, CONFIG, ONNX, PROGRAM, WEIGHTS, settings_of
from stagewise.publishing import publishing
from stagewise.runs.folder import is_export
from stagewise.runs.open import Run
from stagewise.stopping import stoppable
from stagewise.training.checkpoint import write_tensors


def write_export(
    run: Run, stage: str | None, out: Path, onnx: bool, note: Callable[[str], None], force: bool = False
) -> None:
    """Write everything up to a stage of a run to a folder of its own.

    Args:
        run: the run.
        stage: the topmost that is wanted; the run's topmost when None.
        out: the folder.
        onnx: also write model.onnx.
        note: told what is left out, and why.
        force: replace the export that is there.

    Raises:
        ConfigError: the stage is not there or not finished, the folder cannot be, or what --onnx needs is missing.
        IntegrityError: weights of the run are damaged.
        DiskError: the disk is full or failing.
        Interrupted: a signal asked to stop; nothing is kept.
    """
    check_place(out, force, _is_ours)
    if onnx:
        check_onnx()
    name = stage or run.top()
    encoder = run.encoder(name)
    settings = settings_of(encoder, run.locked["pipeline"]["pipeline"]["name"])
    row_shape = tuple(settings["input"]["row_shape"])
    with stoppable() as stop, publishing(out) as partial:
        partial.mkdir()
        files = {WEIGHTS: write_tensors(partial / WEIGHTS, encoder.state_dict())}
        stop.check(None)
        programs = {PROGRAM: write_program(encoder, row_shape, partial / PROGRAM)}
        stop.check(None)
        if onnx:
            programs[ONNX] = write_onnx(encoder, row_shape, partial / ONNX)
            stop.check(None)
        for file, found in programs.items():
            if isinstance(found, str):
                note(found)
            else:
                files[file] = atomic.sha256_of(partial / file)
        differences = {file: found for file, found in programs.items() if not isinstance(found, str)}
        settings |= {"max_difference": differences, "files": files}
        card = model_card(settings, _facts(run, name), programs)
        atomic.write_bytes(partial / CARD, card.encode())
        atomic.write_sealed(partial / CONFIG, settings)


def _is_ours(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return names <= {CARD, CONFIG, WEIGHTS, PROGRAM, ONNX} and is_export(folder)


def _facts(run: Run, stage: str) -> dict[str, Any]:
    pipeline = run.locked["pipeline"]
    objectives = {table["name"]: table["objective"]["target"] for table in pipeline["stage"]}
    seed, untrained, loaded = pipeline["pipeline"]["seed"], run.untrained(stage), run.untrained(stage, "loaded")
    return {**run.facts, "objectives": objectives, "seed": seed, "untrained": untrained, "loaded": loaded}
