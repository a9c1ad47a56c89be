"""What a pipeline file may say: one frozen model per table, one description per key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, field_validator

from stagewise.pipeline.source import Source
from stagewise.pipeline.wording import Bytes, Duration, shown

# The `[defaults.*]` tables merge into every stage and probe, key by key.

STAGE_TABLES = ("train", "objective", "store")


def overlay(base: Any, over: Any) -> Any:
    """Lay a table over another key by key; one that names its own `target` replaces the other whole."""
    if not (isinstance(base, dict) and isinstance(over, dict)) or "target" in over:
        return over
    return base | {key: overlay(base[key], value) if key in base else value for key, value in over.items()}


def with_defaults(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the parsed file with `defaults` merged away; what has not the right shape is left as it is."""
    merged = {key: value for key, value in tree.items() if key != "defaults"}
    defaults = tree.get("defaults")
    if not isinstance(defaults, dict):
        return merged
    of_stages = {table: defaults[table] for table in STAGE_TABLES if table in defaults}
    for key, base in (("stage", of_stages), ("probe", defaults.get("probe", {}))):
        if isinstance(tree.get(key), list):
            merged[key] = [_on(base, item) if isinstance(item, dict) else item for item in tree[key]]
    return merged


def _on(base: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """Lay a stage or a probe over its defaults; a window is no argument of an objective, and outlives another one."""
    merged: dict[str, Any] = overlay(base, item)
    default = base.get("objective") if isinstance(base, dict) else None
    own = merged.get("objective")
    if isinstance(default, dict) and isinstance(own, dict) and "window" in default:
        merged["objective"] = {"window": default["window"]} | own
    return merged


Pool = Literal["mean", "mean+std"]  # how the rows of an item become one vector
MOST = 1 << 20  # of what memory grows with: beyond it sizes do not fit into 64 bits
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
TARGET = r"^([A-Za-z0-9][A-Za-z0-9_-]*|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*)$"
DEVICE = r"^(auto|cpu|cuda(:[0-9]{1,3})?)$"
PATTERNS = {  # what a message says instead of a regular expression
    NAME: "a name: at most 64 letters, digits, '.', '_' and '-', the first a letter or digit",
    TARGET: 'a target: a short name or "package.module:Class"',
    DEVICE: 'a device: "auto", "cpu", "cuda" or "cuda:N"',
}


def _exactly(*choices: object) -> BeforeValidator:
    """Refuse what Python takes for equal and TOML does not: 1, 1.0 and true."""

    def check(value: object) -> object:
        if any(type(value) is type(choice) and value == choice for choice in choices):
            return value
        raise ValueError(f"needs {' or '.join(map(shown, choices))}, not {shown(value)}")

    return BeforeValidator(check)


def _windows(value: object) -> object:
    if value == "cover" or (type(value) is int and value >= 1):
        return value
    raise ValueError(f'needs a whole number of at least 1, or "cover", not {shown(value)}')


def _stages(value: object) -> object:
    if isinstance(value, list | tuple) and value and all(isinstance(name, str) for name in value):
        return tuple(value)
    if value == "all":
        return value
    given = "an empty list" if value == [] else shown(value)
    raise ValueError(f'needs "all" or a list of stage names, not {given}')


Name = Annotated[str, Field(pattern=NAME)]
WindowsPerItem = Annotated[Annotated[int, Field(ge=1)] | Literal["cover"], BeforeValidator(_windows)]
StageNames = Annotated[Literal["all"] | Annotated[tuple[str, ...], Field(min_length=1)], BeforeValidator(_stages)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("optimizer", mode="before", check_fields=False)
    @classmethod
    def _overlay_optimizer(cls, value: object) -> object:
        return overlay(cls.model_fields["optimizer"].default.model_dump(), value)


class Spec(_Table):
    """Something that can be plugged in: a class, and the arguments it is made with."""

    model_config = ConfigDict(extra="allow")

    target: str = Field(pattern=TARGET, description='The class: a short name, or "package.module:Class".')

    @property
    def arguments(self) -> dict[str, Any]:
        """What the class is called with: every key that is not one of this table's own."""
        return dict(self.model_extra or {})


class Data(Spec):
    """The data set, and the part of it that tells when a stage has converged."""

    validation: float = Field(
        default=0.05,
        ge=0,
        lt=0.5,
        description="Fraction of the training items held out to detect convergence.",
    )


class Objective(Spec):
    """The local loss of a stage; its own parameters are thrown away after training."""

    target: str = Field(
        default="infonce", pattern=TARGET, description='The loss: a short name, or "package.module:Class".'
    )
    window: int = Field(default=128, ge=2, le=MOST, description="Consecutive representation rows scored per item.")


class Settings(_Table):
    """What holds for the whole pipeline."""

    name: Name = Field(description="Name of the pipeline; results go to runs/NAME/.")
    system: Name | None = Field(
        default=None, description='Which system of a comparison this is, such as "gim"; the name when absent.'
    )
    seed: int = Field(
        default=0,
        ge=0,
        description="Every random choice derives from the seed, the stage, the epoch and the item.",
    )
    schedule: Literal["iterative", "simultaneous"] = Field(
        default="iterative",
        description='"iterative" trains one stage after another, each to convergence; "simultaneous" all in sync.',
    )
    memory_limit: Bytes | None = Field(
        default=None,
        description='Training any stage stays below this, such as "3 GiB"; no limit when absent.',
    )
    disk_limit: Bytes | None = Field(
        default=None, description='Stores that would not fit this, such as "200 GiB", are recomputed instead.'
    )
    device: str = Field(default="auto", pattern=DEVICE, description='"auto", "cpu", "cuda" or "cuda:N".')
    threads: int | None = Field(default=None, ge=1, description="CPU threads; as many as torch chooses when absent.")


class Train(_Table):
    """How a stage is trained."""

    epochs: int = Field(
        default=1000,
        ge=0,
        description="Epochs at most; training ends at convergence; 0 keeps the weights that it begins with.",
    )
    patience: int = Field(default=20, ge=1, description="Epochs without a better validation loss that end training.")
    batch_size: int = Field(
        default=8,
        ge=1,
        le=MOST,
        description="Windows per optimizer step; those of an epoch that do not fill one wait for another.",
    )
    windows_per_item: WindowsPerItem = Field(
        default=1, description='Training windows per item and epoch, or "cover": as many as cover the item.'
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="Number format of the forward pass."
    )
    optimizer: Spec = Field(
        default=Spec.model_validate({"target": "torch.optim:Adam", "lr": 2e-4}),
        description="A torch optimizer and its arguments.",
    )
    schedule: Spec | None = Field(
        default=None,
        description='How the learning rate changes: "warmup-cosine", or a class of torch.optim.lr_scheduler, stepped '
        "after every update. It stays as it is when absent.",
    )
    checkpoint: Duration = Field(
        default=600.0,
        description='Time between checkpoints, such as "10 min"; a kill loses at most this much.',
    )
    clip_gradient_norm: float | None = Field(
        default=None, gt=0, description="Largest norm of the gradient; not clipped when absent."
    )
    every: int = Field(default=1, ge=1, description="Steps between two updates of the stage, when trained in sync.")
    noise: float = Field(
        default=0.0, ge=0, description="Normal noise on the input in training, in deviations of each channel."
    )


class Store(_Table):
    """How a stage's representation of the data set is kept on disk."""

    write: Annotated[Literal[True, False, "auto"], _exactly(True, False, "auto")] = Field(
        default="auto",
        description="true, false (recompute from the nearest store above) or what the plan decides.",
    )
    dtype: Literal["float32", "float16", "int8"] = Field(
        default="int8", description="Number format on disk; int8 has a scale and an offset per channel."
    )
    compress: Literal["none", "zstd", "auto"] = Field(
        default="auto", description='"none" is the fastest to read; "auto" is zstd only when disk is short.'
    )
    keep: bool = Field(default=True, description="false drops the store once the next one is committed.")


class Stage(_Table):
    """One gradient-isolated module, its objective and its training recipe."""

    name: Name = Field(description="Name of the stage, unique in the file.")
    encoder: Spec | None = Field(default=None, description="The module from input x to representation z.")
    context: Spec | None = Field(default=None, description="The module from representation z to context c.")
    objective: Objective = Field(default=Objective(), description="The local loss.")
    train: Train = Field(default=Train(), description="How the stage is trained.")
    store: Store = Field(default=Store(), description="How its representation is kept.")


class ProbeDefaults(_Table):
    """What every probe starts from: everything but its name."""

    stages: StageNames = Field(description='Names of the stages whose stores are read, or "all": one probe each.')
    labels: str = Field(min_length=1, description="Which labels of the data set are predicted.")
    pool: Pool | None = Field(
        default=None,
        description='"mean" predicts one label per item from the mean of its rows, "mean+std" from the mean and the '
        "deviation of every channel; else one per row.",
    )
    label_offset: int = Field(default=-1, description="Row i is read against label i + this, for labels per row.")
    hidden: int | None = Field(
        default=None, ge=1, le=MOST, description="Units of one hidden ReLU layer; a linear probe when absent."
    )
    epochs: int = Field(default=50, ge=0, description="Epochs of training.")
    batch_size: int = Field(
        default=64, ge=1, le=MOST, description="Examples (items, or labelled rows) per optimizer step."
    )
    optimizer: Spec = Field(
        default=Spec.model_validate({"target": "torch.optim:Adam", "lr": 1e-3}),
        description="A torch optimizer and its arguments.",
    )
    data: Spec | None = Field(default=None, description="A labelled data set of its own; the pipeline's when absent.")
    random: bool = Field(
        default=False,
        description="Also fit it on the same stages before training, to see what their training is worth.",
    )


class Probe(ProbeDefaults):
    """A small supervised reader of stores; linear unless `hidden` is given."""

    name: Name = Field(description="Name of the probe, unique in the file.")


class Pipeline(_Table):
    """A validated pipeline: its data, stages and probes, with every default filled in."""

    format: Annotated[Literal[1], _exactly(1)] = Field(description="Version of this file format: 1.")
    pipeline: Settings = Field(description="Name, seed, limits and device of the whole pipeline.")
    data: Data = Field(description="The data set.")
    stage: Annotated[tuple[Stage, ...], Field(strict=False)] = Field(
        description="The stages, from the input up; at least one.", json_schema_extra={"minItems": 1}
    )
    probe: Annotated[tuple[Probe, ...], Field(strict=False)] = Field(
        default=(), description="The probes, fitted when all stages are trained."
    )
    _source: Source = PrivateAttr(default_factory=Source)

    def where(self, key: str) -> str:
        """Return where a dotted key such as `stage.conv1.encoder` stands: `FILE:LINE: KEY` or `--set KEY`."""
        return self._source.where(self._source.path(key))


class Defaults(_Table):
    """What every stage and probe starts from; a stage's or probe's own keys win."""

    train: Train = Field(default=Train(), description="Default of every stage's train table.")
    objective: Objective = Field(default=Objective(), description="Default of every stage's objective.")
    store: Store = Field(default=Store(), description="Default of every stage's store table.")
    probe: ProbeDefaults | None = Field(default=None, description="Default of every probe.")


class PipelineFile(Pipeline):
    """A stagewise pipeline file."""

    defaults: Defaults = Field(default=Defaults(), description="What every stage and probe starts from.")
