"""config.json of an export: all that is needed to build its encoder again, and the sha256 of its other files.

A seal is no proof: whoever can write a file can seal it again, so that its shape is checked, too, and what it names can
only be modules of the environment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stagewise import __version__, atomic
from stagewise.config import Spec
from stagewise.embedding.given_own import exported
from stagewise.errors import ConfigError, IntegrityError
from stagewise.runs.folder import LOCK_FILE
from stagewise.runs.frozen import FrozenEncoder, Network, build_encoder

CONFIG = "config.json"
WEIGHTS: Final = "model.safetensors"
PROGRAM = "model.pt2"
ONNX = "model.onnx"
CARD = "README.md"
REMEDY = "Type `stagewise export RUN --out DIR --force` to write it again."

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
        "stagewise": __version__,
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
        return Settings.model_validate(atomic.read_sealed(path, REMEDY))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        words = first["msg"].removeprefix("Value error, ")
        raise IntegrityError(f"{path} is damaged ({place}{': ' if place else ''}{words}). {REMEDY}") from None


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
