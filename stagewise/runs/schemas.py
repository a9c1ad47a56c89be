"""What the sealed files of a run are made of: a seal is no proof, for whoever can write a file can seal it again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from stagewise.errors import ConfigError, IntegrityError

# No name leads out of its folder, and no number is too large to be counted with or shown.
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,200}$")]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[float, Field(ge=0, lt=1e12)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Table(BaseModel):
    """Other keys than these may be there: nothing depends on them."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Memory(_Table):
    predicted_peak_bytes: Count
    measured_peak_bytes: Count | None
    pieces: Annotated[Count, Field(ge=1)]
    by_category: dict[str, Count]


class _Train(_Table):
    start: Literal["random", "loaded"] = "random"  # as in records that are older than it
    epochs: Count
    steps: Count
    seconds: Seconds
    initial_loss: float | None
    loss: float | None
    validation_loss: float | None
    converged: bool
    data_wait_seconds: Seconds


class _Health(_Table):
    warnings: list[str]


class _Store(_Table):
    state: Literal["written", "recomputed", "dropped"]
    why: str
    dtype: str | None
    rows: Count
    bytes: Count
    float32_bytes: Count
    seconds: Seconds
    forward_seconds: Seconds


class _Identity(_Table):
    train: dict[str, Any]


class Trained(_Table):
    """trained.json."""

    format: Literal[1]
    fingerprint: Hash
    identity: _Identity
    train: _Train
    memory: _Memory
    health: _Health | None
    below: str | None = None
    files: dict[Literal["encoder.safetensors", "metrics.jsonl", "store.manifest.json"], Hash]  # record.COVERED

    @model_validator(mode="after")
    def _has_weights(self) -> Self:
        if "encoder.safetensors" not in self.files:
            raise ValueError("files: no encoder.safetensors")
        return self


class Record(Trained):
    """stage.json."""

    index: Annotated[Count, Field(ge=1)]
    name: Name
    store: _Store
    environment: dict[str, Any]

    @model_validator(mode="after")
    def _covers_its_store(self) -> Self:
        if self.store.state == "written" and "store.manifest.json" not in self.files:
            raise ValueError("files: no store.manifest.json")
        return self


class ProbeResult(_Table):
    """probe.json."""

    format: Literal[1]
    name: Name
    stage: Name
    labels: str
    metric: str
    value: Share
    interval: Annotated[list[float], Field(min_length=2, max_length=2)]
    majority: Share
    train_items: Count
    test_items: Annotated[Count, Field(ge=1)]
    too_short: Count = 0  # labelled items without a row; older versions did not count them
    test_rows: Annotated[Count, Field(ge=1)] = 1
    classes: Count
    hidden: Count | None
    weights: Hash | None = None
    sha256: Hash
    predictions: Hash | None = None  # sha256 of predictions.safetensors; older versions kept none
    class_names: list[str] = []


class MeansFacts(_Table):
    """means.json."""

    format: Literal[1]
    fingerprint: Hash
    weights: Hash | None
    sha256: Hash


class _Skipped(_Table):
    key: str
    reason: str


class _Label(_Table):
    name: str
    items: Count
    of: Count
    classes: Count
    lines_of_no_item: Count
    examples: list[str]
    what: Literal["file", "folder"]
    not_trained_on: list[str]
    not_tested: list[str]
    fingerprint: Hash | None = None  # of every item's classes; older versions kept none


class DataFacts(_Table):
    """data.json."""

    format: Literal[1]
    fingerprint: str
    items: Count
    samples: Count
    labels: list[_Label] = []
    skipped: list[_Skipped]
    notes: list[str] = []  # what was noted of the files; older versions kept none


class _Policy(_Table):
    model_config = ConfigDict(extra="forbid")

    write: bool
    compress: Literal["none", "zstd"]
    why: str


class _LockedStage(_Table):
    index: Annotated[Count, Field(ge=1)]
    name: Name
    fingerprint: Hash | None
    folder: Name | None
    precision: Literal["float32", "bfloat16"]
    parameters: Count
    rows: Count
    float32_bytes: Count = 0
    policy: _Policy
    together: list[Name] = []
    pieces: Annotated[Count, Field(ge=1)]
    peak: Count
    by_category: dict[str, Count]


class _LockedProbe(_Table):
    name: Name
    stage: Name
    labels: str
    folder: Name
    random: bool = False
    means: Name | None = None


class _EndToEnd(_Table):
    model_config = ConfigDict(extra="forbid")

    peak: Count
    by_category: dict[str, Count]


class _Keys(_Table):
    disk: str
    memory: str


class _Input(_Table):
    channels: Annotated[Count, Field(ge=1)]
    row_shape: Annotated[list[Annotated[Count, Field(ge=1)]], Field(min_length=1)] | None = None
    sample_rate: Count | None
    mean: float | list[float]
    std: float | list[float]

    @model_validator(mode="after")
    def _has_one_mean_of_samples(self) -> Self:
        if len(self.row_shape or ()) != 3 and isinstance(self.mean, list):
            raise ValueError("several means of samples")
        return self


class Lock(_Table):
    """pipeline.lock.json; the pipeline in it is one that `config.from_json` accepts."""

    format: Literal[1]
    pipeline: dict[str, Any]
    device: str
    keys: _Keys
    input: _Input
    end_to_end: _EndToEnd
    items: Hash | None = None  # of items.csv
    stages: list[_LockedStage]
    probes: list[_LockedProbe] = []

    @model_validator(mode="after")
    def _fits_its_pipeline(self) -> Self:
        from stagewise.pipeline import from_json

        pipeline = from_json(self.pipeline)
        asked, fitted = [stage.name for stage in pipeline.stage], {probe.name for probe in pipeline.probe}
        if [(stage.index, stage.name) for stage in self.stages] != [*enumerate(asked, 1)]:
            raise ValueError("stages: they are not those of its pipeline")
        if any(probe.stage not in asked or probe.name not in fitted for probe in self.probes):
            raise ValueError("probes: they are not those of its pipeline")
        return self


def checked(shape: type[BaseModel], content: dict[str, Any], path: Path, advice: str) -> dict[str, Any]:
    """Return the content of a sealed file if it has its shape.

    Args:
        shape: Lock, Record, Trained, ProbeResult, MeansFacts or DataFacts.
        content: of the file.
        path: of the file.
        advice: what the user should type when it is damaged.

    Raises:
        IntegrityError: it has not.
    """
    try:
        shape.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        words = first["msg"].removeprefix("Value error, ")
        raise IntegrityError(f"{path} is damaged ({place}{': ' if place else ''}{words}). {advice}") from None
    except ConfigError as error:
        words = str(error).splitlines()[0]  # the other lines say what else, and how many
        raise IntegrityError(f"{path} is damaged ({words}). {advice}") from None
    return content
