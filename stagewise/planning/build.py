"""A pipeline's stages, built as the file says: networks, objectives, optimizers; and how its data set reads files."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from stagewise import modules, objectives
from stagewise.datasets import SHORT_NAMES
from stagewise.datasets.base import Dataset, Expected
from stagewise.datasets.construct import dataset_kind
from stagewise.errors import ConfigError, DataError
from stagewise.modules.geometry import Geometry
from stagewise.modules.patches import PatchStage
from stagewise.modules.stage_module import StageModule
from stagewise.objectives.base import Objective, Supervised
from stagewise.pipeline import Pipeline, Spec, Stage, build, files_of, resolve
from stagewise.seeds import derive_seed
from stagewise.training.schedule import check_schedule, make_schedule
from stagewise.training.step import Trainee

# The network of a stage: its encoder and its context, constructed for the input that they get.

CHANNELS = ("in_channels", "input_size")  # what modules call the channels of their input


def make_network(
    encoder: Spec | None,
    context: Spec | None,
    in_shape: tuple[int, ...],
    precision: torch.dtype,
    where: Callable[[str], str],
    below: str = "the stage below",
) -> StageModule:
    """Construct the network of a stage; a part that leaves the channels of its input out is given them.

    Args:
        encoder: its class and arguments.
        context: likewise.
        in_shape: of one row of its input: (C,), or (C, H, W) of a patch.
        precision: of its matrix products.
        where: says where a key of the stage stands, such as "encoder"; "" for the stage; for messages.
        below: what its input comes from, for messages.

    Raises:
        ConfigError: a target, an argument or a number of channels is not usable.
    """
    parts: dict[str, nn.Module] = {}
    network = join(None, None, in_shape, where(""), precision)
    for name, spec, source in (("encoder", encoder, below), ("context", context, "its encoder" if encoder else below)):
        if spec is None:
            continue
        channels = network.c_channels
        completed = _completed(spec, channels, where(name))
        parts[name] = build(completed, nn.Module, modules.SHORT_NAMES, where(name))
        try:
            network = join(parts.get("encoder"), parts.get("context"), in_shape, where(""), precision)
        except ConfigError as error:
            for argument in CHANNELS:
                if (given := spec.arguments.get(argument, channels)) != channels:
                    raise ConfigError(
                        f"{where(f'{name}.{argument}')}: is {given}, and its input has {channels} channels, "
                        f"from {source}: write {argument} = {channels}, or leave it out."
                    ) from error
            raise
    return network


def join(
    encoder: nn.Module | None, context: nn.Module | None, in_shape: tuple[int, ...], where: str, precision: torch.dtype
) -> StageModule:
    """Make the network of a stage on rows (C,) or on patches (C, H, W)."""
    if len(in_shape) == 1:
        return StageModule(encoder, context, in_shape[0], where, precision)
    channels, height, width = in_shape
    return PatchStage(encoder, context, (channels, height, width), where, precision)


def _completed(spec: Spec, channels: int, where: str) -> Spec:
    """Give a class the channels of its input where it needs them and the file does not say them."""
    parameters = inspect.signature(resolve(spec.target, nn.Module, modules.SHORT_NAMES, where)).parameters
    needed = [name for name in CHANNELS if name in parameters and parameters[name].default is inspect.Parameter.empty]
    return spec.model_copy(update={name: channels for name in needed if name not in spec.arguments})


# From a validated pipeline to modules, objectives, optimizers and data sets.


@dataclass(frozen=True)
class Input:
    """What the stages are built for.

    Attributes:
        row_shape: of one row of an item: (C,) samples, or (C, H, W) of a patch.
        crop: rows and columns of the patches of a training crop, of images.
        classes: counts the classes of a label.
    """

    row_shape: tuple[int, ...]
    crop: tuple[int, int] | None
    classes: Callable[[str], int]

    @classmethod
    def of(cls, size: Dataset | Expected) -> Input:
        """Return what a data set gives, or will give."""
        if isinstance(size, Dataset):
            return cls(size.row_shape, size.crop, lambda label: len(size.label_classes(label)))

        def classes(label: str) -> int:
            if label not in size.classes:
                raise DataError(f"how many classes label '{label}' has is not known before the data is there.")
            return size.classes[label]

        return cls(size.row_shape, size.crop, classes)


@dataclass
class BuiltStage:
    """A stage with its modules, at their random start.

    Attributes:
        config: its table of the pipeline file.
        where: says where a key of that table stands, such as "train.optimizer"; "" for the table.
        module: encoder and context.
        objective: its local loss.
        geometry: from the raw input to its rows.
        precision: "float32" or "bfloat16".
        rows: of a training window, or patches of a crop.
        grid: of the patches of a crop.
        row_shape: of what its store holds, channels last.
        trains: whether anything in it can be trained.
        flops: multiply-adds of a window, forward, once they were counted.
    """

    config: Stage
    where: Callable[[str], str]
    module: StageModule
    objective: Objective
    geometry: Geometry
    precision: str
    rows: int
    grid: tuple[int, int] | None
    row_shape: tuple[int, ...]
    trains: bool
    flops: float | None = None

    @property
    def epochs(self) -> int:
        """Epochs of its training, at most: none where nothing in it can be trained."""
        return self.config.train.epochs if self.trains else 0

    @property
    def means(self) -> bool:
        """Whether its store holds the spatial mean of a patch, (C,), in place of all of it, (H, W, C)."""
        return len(self.row_shape) < len(self.module.out_shape)


def device_of(pipeline: Pipeline) -> torch.device:
    """Return the device to train on, and set the number of CPU threads.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    if pipeline.pipeline.threads is not None:
        torch.set_num_threads(pipeline.pipeline.threads)
    name = pipeline.pipeline.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f'{pipeline.where("pipeline.device")}: there is no GPU here; use device = "cpu" or "auto".')
    return torch.device(name)


def build_stages(pipeline: Pipeline, data: Input, device: torch.device) -> list[BuiltStage]:
    """Construct every stage with the weights that its seed gives, on the CPU.

    Raises:
        ConfigError: a target, an argument or a number of channels is not usable.
        DataError: a label is not there.
    """
    built: list[BuiltStage] = []
    geometry, shape = Geometry(), data.row_shape
    for number, config in enumerate(pipeline.stage, 1):
        where = _places(pipeline, config.name)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(pipeline.pipeline.seed, config.name, "init"))
            module = _module(config, where, shape, device, _source(pipeline, number - 1, shape))
            objective = _objective(config, where("objective"), module, data)
        dimensions = {p.ndim for part in (module, objective) for p in part.parameters()} or {2}
        optimizer = check_optimizer(config.train.optimizer, where("train.optimizer"), dimensions)
        if config.train.schedule is not None:
            check_schedule(config.train.schedule, where("train.schedule"), optimizer)
        geometry, shape = geometry + module.geometry, module.out_shape
        rows = config.objective.window if data.crop is None else data.crop[0] * data.crop[1]
        # What no stage reads is kept for the probes, which read the mean of a patch.
        stored = (*shape[1:], shape[0]) if number < len(pipeline.stage) else shape[:1]
        precision = str(module.precision).removeprefix("torch.")
        trains = any(parameter.requires_grad for parameter in module.parameters())
        built.append(BuiltStage(config, where, module, objective, geometry, precision, rows, data.crop, stored, trains))
    return built


def _places(pipeline: Pipeline, stage: str) -> Callable[[str], str]:
    return lambda key: pipeline.where(f"stage.{stage}.{key}" if key else f"stage.{stage}")


def _module(
    config: Stage, where: Callable[[str], str], in_shape: tuple[int, ...], device: torch.device, below: str
) -> StageModule:
    precision: torch.dtype = getattr(torch, resolve_precision(config.train.precision, device))
    return make_network(config.encoder, config.context, in_shape, precision, where, below)


def start_of(seed: int, stage: BuiltStage, device: torch.device) -> Literal["random", "loaded"]:
    """Say whether a stage begins with weights that classes of somebody's own have loaded.

    They have where they are given files, or where most weights are the same from another seed: for that, a network of
    somebody's own is built twice more. torch's random numbers are left as they would be without this.
    """
    config = stage.config
    specs = [spec for spec in (config.encoder, config.context) if spec is not None]
    ours = ("torch.", "stagewise.")
    own = [spec for spec in specs if spec.target not in modules.SHORT_NAMES and not spec.target.startswith(ours)]
    kinds = [resolve(spec.target, nn.Module, {}, stage.where("")) for spec in own]
    if any(files_of(kind, spec) for kind, spec in zip(kinds, own, strict=True)):
        return "loaded"
    if not own or not any(True for _ in stage.module.parameters()):
        return "random"
    first, second = list[nn.Parameter](), list[nn.Parameter]()
    for found, use in ((first, "init"), (second, "another start")):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(seed, config.name, use))
            found += _module(config, stage.where, stage.module.in_shape, device, "the stage below").parameters()
    drawn = loaded = 0
    for one, two in zip(first, second, strict=False):
        if not torch.equal(one, two):
            drawn += one.numel()
        elif one.numel() > 1 and not torch.equal(one, one.flatten()[0].expand_as(one)):  # ones and zeros are no weights
            loaded += one.numel()
    return "loaded" if loaded > drawn else "random"


def end_to_end(built: list[BuiltStage]) -> BuiltStage:
    """Join all stages into one, with the last one's objective on its top: what is trained end to end."""
    top = built[-1]
    kept = [[s.module.encoder] if s.grid else [s.module.encoder, s.module.context] for s in built[:-1]]
    parts = [p for stage in [*kept, [top.module.encoder]] for p in stage if p is not None]
    encoder = nn.Sequential(*parts) if parts else None
    module = join(encoder, top.module.context, built[0].module.in_shape, "end to end", top.module.precision)
    return replace(top, module=module, flops=None)


def make_trainee(stage: BuiltStage, pieces: int = 1, updates: int | None = None) -> Trainee:
    """Join a stage with its objective and optimizer, wherever their parameters are now.

    Args:
        stage: with its modules.
        pieces: that a step is computed in.
        updates: of the whole training, at most, for the schedule of the learning rate; None makes none.
    """
    trainee = Trainee(stage.module, stage.objective, None, pieces, stage.config.train.clip_gradient_norm)
    if stage.epochs > 0 or any(True for _ in trainee.parameters()):
        make = make_optimizer(stage.config.train.optimizer, stage.where("train.optimizer"))
        trainee.optimizer = make(trainee.parameters())
        if (schedule := stage.config.train.schedule) is not None and updates is not None:
            trainee.schedule = make_schedule(schedule, stage.where("train.schedule"), updates)(trainee.optimizer)
    return trainee


def make_optimizer(spec: Spec, where: str) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """Return what makes the optimizer of some parameters; fused where torch has it, for speed and memory."""
    kind = resolve(spec.target, torch.optim.Optimizer, {}, where)
    extra: dict[str, Any] = {}
    if "fused" in inspect.signature(kind).parameters and "fused" not in spec.arguments:
        extra["fused"] = True  # no temporaries as large as the parameters
    return lambda parameters: build(spec, torch.optim.Optimizer, {}, where, params=list(parameters), **extra)


def check_optimizer(spec: Spec, where: str, dimensions: Iterable[int]) -> torch.optim.Optimizer:
    """Take two steps of an optimizer on small parameters of so many dimensions, as it would be asked to; return it.

    Raises:
        ConfigError: it is not usable, as one whose step needs a closure or sparse gradients.
    """
    parameters = [nn.Parameter(torch.ones((2,) * number)) for number in sorted(dimensions)]
    optimizer = make_optimizer(spec, where)(parameters)
    try:
        for _ in range(2):
            for parameter in parameters:
                parameter.grad = torch.ones_like(parameter)
            optimizer.step()
    except Exception as error:  # whatever a class of somebody's own raises
        raise ConfigError(
            f"{where}: {spec.target} cannot be used: {error}. Its step is given dense gradients and no "
            "closure: choose another, such as torch.optim:Adam."
        ) from error
    return optimizer


def resolve_precision(precision: str, device: torch.device) -> str:
    """Turn "auto" into bfloat16 where matrix products gain from it: on a GPU, and on a CPU with AMX."""
    if precision != "auto":
        return precision
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_amx_tile_supported()
    return "bfloat16" if fast else "float32"


def _source_of(kind: type, target: str) -> bytes:
    """Return the source of the module that a class is in, or the file that it is compiled to."""
    module = sys.modules[kind.__module__]
    try:
        return inspect.getsource(module).encode()
    except (OSError, TypeError):  # typed in, compiled, or part of the interpreter
        file = getattr(module, "__file__", None)
        if file and Path(file).is_file():
            return Path(file).read_bytes()
        if module.__name__ in sys.builtin_module_names:
            return b""
    raise ConfigError(
        f"{target}: {kind.__name__} is in no file ({kind.__module__}), so that a change of it could not be noticed: "
        "write it into a module, and name that."
    )


def source_hashes(specs: Iterable[tuple[Spec | None, dict[str, str]]]) -> dict[str, str]:
    """Hash the source files of classes that are neither ours nor torch's, and of their own bases, by target."""
    hashes = {}
    for spec, short_names in specs:
        if spec is None or spec.target in short_names or spec.target.startswith("torch."):
            continue
        digest = hashlib.sha256()
        for kind in resolve(spec.target, object, short_names, spec.target).__mro__:
            if kind.__module__.split(".")[0] not in ("torch", "stagewise", "builtins", "abc", "typing"):
                digest.update(_source_of(kind, spec.target))
        hashes[f"source of {spec.target}"] = digest.hexdigest()[:16]
    return hashes


def _objective(config: Stage, where: str, module: StageModule, data: Input) -> Objective:
    extra: dict[str, int] = {"z_channels": module.z_channels, "c_channels": module.c_channels}
    kind = resolve(config.objective.target, Objective, objectives.SHORT_NAMES, where)
    label = config.objective.arguments.get("labels")
    if issubclass(kind, Supervised) and isinstance(label, str):
        extra["classes"] = data.classes(label)
    elif issubclass(kind, Supervised):
        raise ConfigError(f'{where}: {config.objective.target} needs the name of a label, such as labels = "class".')
    return build(config.objective, Objective, objectives.SHORT_NAMES, where, **extra)


def _source(pipeline: Pipeline, position: int, in_shape: tuple[int, ...]) -> str:
    """Say what a stage's input comes from, and of images which key decides how many channels they have."""
    if position:
        return f"stage {pipeline.stage[position - 1].name}"
    if "grayscale" not in inspect.signature(dataset_kind(pipeline.data, pipeline.where("data"))).parameters:
        return "the data"
    return f"the data (data.grayscale = {'true' if in_shape[0] == 1 else 'false'})"


# How a run's data set reads files, said in a few words that an export can take along.

# What their files are. Not those of their sub-classes, which may do more with what they read.
KINDS = {
    "audio-folder": "audio",
    "librispeech": "audio",
    "synthetic-speech": "audio",
    "image-folder": "image",
    "stl10": "image",
    "digits": "image",
}


def reads_of(pipeline: Pipeline) -> dict[str, Any]:
    """Return how the pipeline's data set reads files.

    Returns:
        target: its class.
        kind: "audio" or "image"; None where it reads in a way of its own, and its class may not even be here.
        short_side: pixels that short sides of images are resized to; None leaves them.
        crop: pixels of a training crop's side; None of audio.
        arguments: of a class that reads in a way of its own.
    """
    target = SHORT_NAMES.get(pipeline.data.target, pipeline.data.target)
    kind = {SHORT_NAMES[name]: kind for name, kind in KINDS.items()}.get(target)
    sizes: dict[str, Any] = {}
    if kind == "image":
        parameters = inspect.signature(dataset_kind(pipeline.data, pipeline.where("data"))).parameters
        sizes = {name: each.default for name, each in parameters.items()} | pipeline.data.arguments
    return {
        "target": pipeline.data.target,
        "kind": kind,
        "short_side": sizes.get("size"),
        "crop": sizes.get("crop"),
        "arguments": {} if kind else pipeline.data.arguments,
    }
