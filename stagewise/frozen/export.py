"""An encoder exported to a folder: weights, settings, a card; and loaded from it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from stagewise import durable
from stagewise.durable import publishing
from stagewise.errors import ConfigError, InputError, IntegrityError, NumberError
from stagewise.frozen.encoder import FrozenEncoder, Network, Origin, build_encoder
from stagewise.frozen.given_files import trained_at
from stagewise.frozen.open import Run
from stagewise.frozen.own_readers import exported, takes
from stagewise.frozen.program import check_onnx, example, write_onnx, write_program
from stagewise.frozen.writers import check_place
from stagewise.libraries import VERSION
from stagewise.pipeline import Spec
from stagewise.runs.folder import LOCK_FILE, is_export
from stagewise.signals import stoppable
from stagewise.text import bytes_text, counted
from stagewise.training.checkpoint import read_tensors, tensors_sha256, write_tensors

# README.md of an export, the model card: what the encoder was trained on and how, what it gives, how to load it.

TUNED = (
    "**Tuned**: its weights were changed after stagewise had trained them. What was measured of them then (losses, "
    "probes) does not hold any more."
)
UNKNOWN = (
    "What it was trained on, and what was measured of it, stands in its run and in the model card of the run's export. "
    "All arguments of the networks are in config.json."
)


def model_card(
    settings: Mapping[str, Any], facts: Mapping[str, Any] | None, programs: Mapping[str, float | str]
) -> str:
    """Write the card.

    Args:
        settings: config.json.
        facts: what `inspect --json` says of the run, its objectives and seed, and the stages that were not trained, of
            random weights and of loaded ones; None where the run is not known.
        programs: by file, the largest difference from the encoder, or why it is not there.
    """
    names = [stage["name"] for stage in settings["stages"]]
    given, out = settings["input"], settings["output"]
    images = given.get("patch") is not None
    lines = [
        f"# {settings['pipeline']}: {names[-1]}",
        "",
        f"A frozen encoder, made with stagewise {settings['stagewise']}: {' → '.join(names)}.",
        "",
        *([TUNED, ""] if settings["tuned"] else []),
        "License: FILL IN",
        "",
        "```python",
        "import stagewise",
        'encoder = stagewise.load("PATH OF THIS FOLDER")  # a frozen torch.nn.Module',
        *_embedded(given),
        "```",
        "",
        f"Input of `encoder(x)`: float32 {_shape(given, images)}, standardised as "
        f"(input - {given['mean']}) / {given['std']}. Output: {_output(given, out, images)}.",
        "",
        *(_made(settings, facts, names) if facts is not None else [UNKNOWN, ""]),
    ]
    lines += ["## Files", "", "* `model.safetensors`, `config.json`: what `stagewise.load` reads, and checks"]
    for name, found in programs.items():
        least = "patches a side" if images else "rows"
        takes = "`torch.export.load`" if name.endswith(".pt2") else "ONNX Runtime"
        lines.append(
            f"* {found}"
            if isinstance(found, str)
            else f"* `{name}`: the same for {takes}, for inputs of two {least} or more; largest difference {found:.2g}"
        )
    return "\n".join(lines) + "\n"


def _made(settings: Mapping[str, Any], facts: Mapping[str, Any], names: list[str]) -> list[str]:
    """Say what it was trained on and how, and what probes gave."""
    lines = [
        "## Data",
        "",
        _data(facts.get("data"), settings["input"]),
        "",
        "## Stages",
        "",
        "| stage | network | objective | epochs | validation loss | memory of a training step |",
        "|---|---|---|---|---|---|",
    ]
    by_name = {stage["name"]: stage for stage in facts["stages"]}
    for stage in settings["stages"]:
        made, objective = by_name[stage["name"]], facts["objectives"].get(stage["name"], "")
        network = ", ".join(str(part["target"]) for part in (stage["encoder"], stage["context"]) if part)
        loss = made["train"]["validation_loss"]
        measured = made["memory"]["measured_peak_bytes"] or made["memory"]["predicted_peak_bytes"]
        shown = "" if loss is None else f"{loss:.3f}"
        epochs = made["train"]["epochs"]
        lines.append(f"| {stage['name']} | {network} | {objective} | {epochs} | {shown} | {bytes_text(measured)} |")
    if facts["untrained"]:
        lines += ["", f"**{', '.join(facts['untrained'])}: trained for no epoch, the weights are random.**"]
    if facts["loaded"]:
        lines += ["", f"{', '.join(facts['loaded'])}: trained for no epoch, the weights are as they were loaded."]
    lines += [
        "",
        f"All arguments of the networks are in config.json. The random seed was {facts['seed']}.",
        "",
        "## Probes",
        "",
    ]
    return [*lines, *_probes([probe for probe in facts["probes"] if probe["stage"] in names]), ""]


def _embedded(given: Mapping[str, Any]) -> list[str]:
    file = {"audio": "talk.flac", "image": "photograph.jpg", None: "FILE"}[given["reads"]["kind"]]
    return [f'rows = encoder.embed("{file}")  # float32 (rows, channels)'] if takes(given["reads"]) else []


def _shape(given: Mapping[str, Any], images: bool) -> str:
    if images:
        return f"(B, {given['channels']}, height, width) in [0, 1]"
    rate = f" at {given['sample_rate']:,} Hz" if given["sample_rate"] else ""
    return f"(B, {given['channels']}, samples){rate}"


def _output(given: Mapping[str, Any], out: Mapping[str, Any], images: bool) -> str:
    if images and not given["patch"]:
        return f"(B, {out['channels']}, rows, columns), the map of the whole image"
    if images:
        size, hop = out["receptive_field"], out["hop"]
        return f"(B, {out['channels']}, rows, columns), the mean of every patch of {size} × {size} every {hop} pixels"
    return (
        f"(B, {out['channels']}, rows), a row every {out['hop']:,} samples, which sees {out['receptive_field']:,} "
        "(with a recurrent stage all before it, too)"
    )


def _data(data: Mapping[str, Any] | None, given: Mapping[str, Any]) -> str:
    scale = ""
    if size := trained_at(given["reads"]):
        advice = "things should have about the size in pixels that they had there"
        scale = f" Trained on {size}: {'`encoder.embed` does that' if given['reads']['short_side'] else advice}."
    if data is None:
        return f"What it was trained on is not recorded.{scale}"
    rows = "samples" if given.get("patch") is None else "patches"
    items = f"{counted(data['items'], 'item')}, {data['samples']:,} {rows}"
    return f"{items}; fingerprint `{data['fingerprint'][:16]}`.{scale}"


def _probes(probes: list[Mapping[str, Any]]) -> list[str]:
    if not probes:
        return ["None were fitted on these stages."]
    rows = ["| probe | stage | value | 95 % interval | before training | majority | |", "|---|---|---|---|---|---|---|"]
    for probe in probes:
        low, high = probe["interval"]
        random = f"{probe['random']['value']:.3f}" if probe["random"] else ""
        shown = f"{probe['metric']} {probe['value']:.3f} | {low:.3f} – {high:.3f} | {random} | {probe['majority']:.3f}"
        rows.append(f"| {probe['name']} | {probe['stage']} | {shown} | {probe['words']} |")
    words = "Majority: always saying the training items' most frequent class. Before training: on the same stages then."
    return [*rows, "", words]


# config.json of an export: all that is needed to build its encoder again, and the sha256 of its other files.
#
# A seal is no proof: whoever can write a file can seal it again, so that its shape is checked, too, and what it names
# can only be modules of the environment.

CONFIG = "config.json"
WEIGHTS: Final = "model.safetensors"
PROGRAM = "model.pt2"
ONNX = "model.onnx"
CARD = "README.md"
ADVICE = "Type `stagewise export RUN --out DIR --force` to write it again."

Size = Annotated[int, Field(ge=1, lt=2**31)]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Numbers = float | list[float]


class _Table(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class Reads(_Table):
    """How files become an input; `kind` is None where the class of the run's data set reads them with `arguments`."""

    target: str
    kind: Literal["audio", "image"] | None
    short_side: Size | None
    crop: Size | None = None  # as in exports that are older than it
    arguments: dict[str, Any] = {}


class Input(_Table):
    """What the encoder takes: x = (input - mean) / std."""

    channels: Size
    row_shape: Annotated[list[Size], Field(min_length=1, max_length=3)]
    sample_rate: Annotated[int, Field(ge=0)] | None
    mean: Numbers
    std: Numbers
    patch: Annotated[int, Field(ge=0)] | None = None
    stride: Size | None = None
    reads: Reads = Reads(target="", kind=None, short_side=None)  # as in exports that are older than it


class ExportedStage(_Table):
    """A stage's network: targets and arguments, as in a pipeline file."""

    name: str
    encoder: Spec | None
    context: Spec | None
    precision: Literal["float32", "bfloat16"]


class Settings(_Table):
    """config.json."""

    format: Literal[1]
    pipeline: str
    tuned: bool = False
    input: Input
    stages: Annotated[list[ExportedStage], Field(min_length=1)]
    files: dict[Literal["model.safetensors", "model.pt2", "model.onnx"], Hash]

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if WEIGHTS not in self.files:
            raise ValueError(f"files: no {WEIGHTS}")
        shape = self.input.row_shape
        if len(shape) == 2 or (len(shape) == 3) != (self.input.patch is not None):
            raise ValueError("input: its row_shape is neither that of samples nor that of patches")
        if self.input.patch is not None and self.input.stride is None:
            raise ValueError("input: no stride")
        if self.input.reads.kind not in (None, "image" if len(shape) == 3 else "audio"):
            raise ValueError("input: its files are of another kind than its row_shape")
        if self.input.reads.kind == "audio" and not self.input.sample_rate:
            raise ValueError("input: no sample_rate")
        if len(shape) != 3 and isinstance(self.input.mean, list):
            raise ValueError("input: several means of samples")
        return self


def settings_of(encoder: FrozenEncoder) -> dict[str, Any]:
    """Return what config.json says of an encoder, but for its files."""
    facts = encoder.facts
    return {
        "format": 1,
        "stagewise": VERSION,
        "torch": torch.__version__,
        "pipeline": encoder.origin.pipeline,
        "tuned": encoder.origin.tuned,
        "input": {
            **facts,
            "row_shape": facts.get("row_shape") or [facts["channels"]],
            "reads": exported(facts["reads"]),
        },
        "output": {
            "channels": encoder.channels,
            "hop": encoder.hop,
            "receptive_field": encoder.receptive_field,
            "first": encoder.first,
        },
        "stages": [
            {
                "name": network.name,
                "encoder": network.encoder and network.encoder.model_dump(mode="json"),
                "context": network.context and network.context.model_dump(mode="json"),
                "precision": network.precision,
            }
            for network in encoder.networks
        ],
    }


def read_settings(folder: Path) -> Settings:
    """Read config.json.

    Raises:
        ConfigError: the folder is no export.
        IntegrityError: the file is damaged.
    """
    path = folder / CONFIG
    if (folder / LOCK_FILE).is_file():
        raise ConfigError(f"{folder} is a run, not an export: type stagewise.open({str(folder)!r}).encoder().")
    if not path.is_file():
        raise ConfigError(
            f"{folder} is not an export (it has no {CONFIG}): name the DIR of a `stagewise export RUN --out DIR`."
        )
    try:
        return Settings.model_validate(durable.read_sealed(path, ADVICE))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        words = first["msg"].removeprefix("Value error, ")
        raise IntegrityError(f"{path} is damaged ({place}{': ' if place else ''}{words}). {ADVICE}") from None


def encoder_of(settings: Settings, name: str) -> FrozenEncoder:
    """Construct the network that an export describes, with whatever weights come of it.

    Args:
        settings: what config.json says.
        name: of the file, for messages.

    Raises:
        ConfigError: a target is no module, or its arguments are not usable.
    """
    networks = [Network(each.name, each.encoder, each.context, each.precision) for each in settings.stages]
    return build_encoder(networks, settings.input.model_dump(), name)


# Read an export: the frozen encoder that a run gave, without the run.


def load_export(path: str | Path) -> FrozenEncoder:
    """Return the frozen module that `stagewise export` wrote to a folder: the same as `run.encoder(stage)`.

    `encoder.embed("talk.flac")` gives the rows of a file; `encoder(x)` takes x (B, C, T) or (B, C, H, W), standardised
    with `.mean` and `.std`. Classes of your own are imported by name, from what is installed or on PYTHONPATH.

    Raises:
        ConfigError: the folder is no export, or names classes that are not there or are no modules.
        IntegrityError: its settings or weights are not what was written.
    """
    folder = Path(path)
    settings = read_settings(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise IntegrityError(f"{weights} is missing. {ADVICE}")
    if durable.sha256_of(weights) != settings.files[WEIGHTS]:
        raise IntegrityError(f"{weights} is not what was written. {ADVICE}")
    encoder = encoder_of(settings, str(folder / CONFIG))
    try:
        encoder.load_state_dict(read_tensors(weights))
    except RuntimeError as error:
        raise IntegrityError(f"{weights} does not fit {folder / CONFIG}: {error}. {ADVICE}") from None
    encoder.origin = Origin(settings.pipeline, settings.tuned, {"": settings.files[WEIGHTS]})
    return encoder


# Write an export: a folder that is whole or not there.

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
        raise _changed("it gives other rows than a network that is made again with its weights")
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
                files[file] = durable.sha256_of(partial / file)
        differences = {file: found for file, found in programs.items() if not isinstance(found, str)}
        settings |= {"max_difference": differences, "files": files}
        card = model_card(settings, facts, programs)
        durable.write_bytes(partial / CARD, card.encode())
        durable.write_sealed(partial / CONFIG, settings)


def _is_ours(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return names <= {CARD, CONFIG, WEIGHTS, PROGRAM, ONNX} and is_export(folder)


def _facts(run: Run, stage: str) -> dict[str, Any]:
    pipeline = run.locked["pipeline"]
    objectives = {table["name"]: table["objective"]["target"] for table in pipeline["stage"]}
    seed, untrained, loaded = pipeline["pipeline"]["seed"], run.untrained(stage), run.untrained(stage, "loaded")
    return {**run.facts, "objectives": objectives, "seed": seed, "untrained": untrained, "loaded": loaded}
