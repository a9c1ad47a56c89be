"""Write an export: a folder that is whole or not there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stagewise import atomic
from stagewise.embedding.place import check_place
from stagewise.errors import InputError, NumberError
from stagewise.exporting.card import model_card
from stagewise.exporting.program import check_onnx, example, write_onnx, write_program
from stagewise.exporting.settings import CARD, CONFIG, ONNX, PROGRAM, WEIGHTS, settings_of
from stagewise.publishing import publishing
from stagewise.runs.folder import is_export
from stagewise.runs.frozen import FrozenEncoder, build_encoder
from stagewise.runs.open import Run
from stagewise.stopping import stoppable
from stagewise.training.checkpoint import tensors_sha256, write_tensors

SAME = 1e-3  # of the largest value: what two processors may differ by


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
    name = stage or run.top()
    _check(out, onnx, force)
    encoder = run.encoder(name)
    settings = settings_of(encoder)
    _write(encoder, settings, _facts(run, name), out, onnx, note)


def export_encoder(encoder: FrozenEncoder, out: str | Path, onnx: bool = False, force: bool = False) -> list[str]:
    """Write an encoder whose weights were tuned to a folder, as `stagewise export` does: `stagewise.load` reads it.

    Its model card and config.json say that it was tuned, if any weight differs from those that were loaded. It may be
    on any device, and is left as it is.

    Args:
        encoder: what `stagewise.load` or `run.encoder()` gave.
        out: the folder.
        onnx: also write model.onnx.
        force: replace the export that is there.

    Returns:
        sentences on what was left out, and why.

    Raises:
        InputError: it is another module, or more than its weights were changed.
        NumberError: a weight is NaN or infinite.
        ConfigError: the folder cannot be, or what model.onnx needs is missing.
        DiskError: the disk is full or failing.
        Interrupted: a signal asked to stop; nothing is kept.
    """
    if not isinstance(encoder, FrozenEncoder):
        raise InputError(
            "stagewise.export takes the encoder that stagewise.load or run.encoder() gave, such as model.encoder of a "
            f"module on top of it, and not {type(encoder).__name__}."
        )
    _check(Path(out), onnx, force, python=True)
    plain, notes = _as_made(encoder), list[str]()
    _write(plain, settings_of(plain), None, Path(out), onnx, notes.append)
    return notes


def _as_made(encoder: FrozenEncoder) -> FrozenEncoder:
    """Build an encoder's network again, frozen and on the CPU, with the weights of now.

    Raises what `export_encoder` does.
    """
    state = {name: tensor.detach().cpu() for name, tensor in encoder.state_dict().items()}
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise NumberError(f"{name} holds NaN or infinity: nothing is written. Tune it with a lower learning rate.")
    plain = build_encoder(encoder.networks, encoder.facts, "the encoder")
    try:
        plain.load_state_dict(state)
    except RuntimeError as error:
        raise _changed(str(error)) from None
    before = encoder.origin
    own = {prefix: _below(prefix, state) for prefix in before.hashes}
    tuned = before.tuned or any(tensors_sha256(own[prefix]) != digest for prefix, digest in before.hashes.items())
    plain.origin = replace(before, tuned=tuned)
    x, _ = example(plain, tuple(encoder.facts.get("row_shape") or [encoder.facts["channels"]]))
    x = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    modes = [(module, module.training) for module in encoder.modules()]
    try:
        with torch.no_grad():
            found, wanted = encoder.eval()(x.to(encoder.device)).cpu(), plain(x)
    finally:
        for module, training in modes:
            module.training = training
    if found.shape != wanted.shape or (found - wanted).abs().max() > SAME * wanted.abs().max():
        raise _changed("it gives other rows than a network that is made anew with its weights")
    return plain


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _changed(how: str) -> InputError:
    return InputError(
        f"more than the weights of this encoder was changed ({how}): stagewise.export writes the network that it was "
        "made with. Keep what you add to it beside it, in a module of your own."
    )


def _check(out: Path, onnx: bool, force: bool, python: bool = False) -> None:
    check_place(out, force, _is_ours, python)
    if onnx:
        check_onnx()


def _write(
    encoder: FrozenEncoder,
    settings: dict[str, Any],
    facts: Mapping[str, Any] | None,
    out: Path,
    onnx: bool,
    note: Callable[[str], None],
) -> None:
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
        card = model_card(settings, facts, programs)
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
