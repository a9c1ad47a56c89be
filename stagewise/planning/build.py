"""From a validated pipeline to modules, objectives, optimizers and data sets."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from stagewise import datasets, modules, objectives
from stagewise.config import Pipeline, Spec, Stage, build, resolve
from stagewise.datasets.base import Dataset
from stagewise.errors import ConfigError
from stagewise.modules.geometry import Geometry
from stagewise.modules.stage_module import StageModule
from stagewise.objectives import Objective
from stagewise.seeds import derive_seed
from stagewise.training.step import Trainee


@dataclass
class BuiltStage:
    """A stage with its modules, at their random start.

    Attributes:
        config: its table of the pipeline file.
        module: encoder and context.
        objective: its local loss.
        geometry: from the raw input to its rows.
        precision: "float32" or "bfloat16".
    """

    config: Stage
    module: StageModule
    objective: Objective
    geometry: Geometry
    precision: str


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


def build_dataset(pipeline: Pipeline, spec: Spec | None = None, where: str = "data") -> Dataset:
    """Construct the pipeline's data set, or the one of a probe."""
    return build(spec or pipeline.data, Dataset, datasets.SHORT_NAMES, pipeline.where(where))


def dataset_kind(pipeline: Pipeline) -> type[Dataset]:
    """Return the class of the pipeline's data set, without constructing it."""
    return resolve(pipeline.data.target, Dataset, datasets.SHORT_NAMES, pipeline.where("data"))


def build_stages(pipeline: Pipeline, channels: int, device: torch.device) -> list[BuiltStage]:
    """Construct every stage with the weights that its seed gives, on the CPU.

    Raises:
        ConfigError: a target, an argument or a number of channels is not usable.
    """
    built: list[BuiltStage] = []
    geometry = Geometry()
    for config in pipeline.stage:
        where = f"stage.{config.name}"
        precision = resolve_precision(config.train.precision, device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(pipeline.pipeline.seed, config.name, "init"))
            encoder = _module(pipeline, config.encoder, f"{where}.encoder")
            context = _module(pipeline, config.context, f"{where}.context")
            module = StageModule(encoder, context, channels, pipeline.where(where), getattr(torch, precision))
            objective = build(
                config.objective,
                Objective,
                objectives.SHORT_NAMES,
                pipeline.where(f"{where}.objective"),
                z_channels=module.z_channels,
                c_channels=module.out_channels,
            )
        geometry, channels = geometry + module.geometry, module.out_channels
        built.append(BuiltStage(config, module, objective, geometry, precision))
    return built


def end_to_end(built: list[BuiltStage]) -> BuiltStage:
    """Join all stages into one, with the last one's objective on its top: what is trained end to end."""
    top = built[-1]
    parts = [p for stage in built for p in (stage.module.encoder, stage.module.context) if p is not None]
    context = parts.pop() if top.module.context is not None else None
    encoder = nn.Sequential(*parts) if parts else None
    module = StageModule(encoder, context, built[0].module.in_channels, "end to end", top.module.precision)
    return BuiltStage(top.config, module, top.objective, top.geometry, top.precision)


def make_trainee(pipeline: Pipeline, stage: BuiltStage, pieces: int = 1) -> Trainee:
    """Join a stage with its objective and optimizer, wherever their parameters are now."""
    trainee = Trainee(stage.module, stage.objective, None, pieces, stage.config.train.clip_gradient_norm)
    where = f"stage.{stage.config.name}.train.optimizer"
    if stage.config.train.epochs > 0 or any(True for _ in trainee.parameters()):
        trainee.optimizer = make_optimizer(pipeline, stage.config.train.optimizer, where)(trainee.parameters())
    return trainee


def make_optimizer(
    pipeline: Pipeline, spec: Spec, where: str
) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    """Return what makes the optimizer of some parameters; fused where torch has it, for speed and memory."""
    kind = resolve(spec.target, torch.optim.Optimizer, {}, pipeline.where(where))
    extra: dict[str, Any] = {}
    if "fused" in inspect.signature(kind).parameters and "fused" not in spec.arguments:
        extra["fused"] = True  # no temporaries as large as the parameters
    return lambda parameters: build(
        spec, torch.optim.Optimizer, {}, pipeline.where(where), params=list(parameters), **extra
    )


def resolve_precision(precision: str, device: torch.device) -> str:
    """Turn "auto" into bfloat16 where matrix products gain from it: on a GPU, and on a CPU with AMX."""
    if precision != "auto":
        return precision
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_amx_tile_supported()
    return "bfloat16" if fast else "float32"


def source_hashes(specs: Iterable[tuple[Spec | None, dict[str, str]]]) -> dict[str, str]:
    """Hash the source files of classes that are neither ours nor torch's, and of their own bases, by target."""
    hashes = {}
    for spec, short_names in specs:
        if spec is None or spec.target in short_names or spec.target.startswith("torch."):
            continue
        digest = hashlib.sha256()
        for kind in resolve(spec.target, object, short_names, spec.target).__mro__:
            if kind.__module__.split(".")[0] not in ("torch", "stagewise", "builtins", "abc", "typing"):
                with suppress(OSError, TypeError):
                    digest.update(inspect.getsource(sys.modules[kind.__module__]).encode())
        hashes[f"source of {spec.target}"] = digest.hexdigest()[:16]
    return hashes


def _module(pipeline: Pipeline, spec: Spec | None, where: str) -> nn.Module | None:
    return None if spec is None else build(spec, nn.Module, modules.SHORT_NAMES, pipeline.where(where))
