"""The network of a stage: its encoder and its context, constructed for the input that they get."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import nn

from stagewise import modules
from stagewise.config import Spec, build, resolve
from stagewise.errors import ConfigError
from stagewise.modules.patch_stage import PatchStage
from stagewise.modules.stage_module import StageModule

CHANNELS = ("in_channels", "input_size")  # what modules call the channels of their input


def make_network(
    key: str,
    encoder: Spec | None,
    context: Spec | None,
    in_shape: tuple[int, ...],
    precision: torch.dtype,
    where: Callable[[str], str],
    below: str = "the stage below",
) -> StageModule:
    """Construct the network of a stage; a part that leaves the channels of its input out is given them.

    Args:
        key: of the stage: `stage.NAME`.
        encoder: its class and arguments.
        context: likewise.
        in_shape: of one row of its input: (C,), or (C, H, W) of a patch.
        precision: of its matrix products.
        where: says where a key stands, for messages.
        below: what its input comes from, for messages.

    Raises:
        ConfigError: a target, an argument or a number of channels is not usable.
    """
    parts: dict[str, nn.Module] = {}
    network = join(None, None, in_shape, where(key), precision)
    for name, spec, source in (("encoder", encoder, below), ("context", context, "its encoder" if encoder else below)):
        if spec is None:
            continue
        place, channels = f"{key}.{name}", network.c_channels
        completed = _completed(spec, channels, where(place))
        parts[name] = build(completed, nn.Module, modules.SHORT_NAMES, where(place))
        try:
            network = join(parts.get("encoder"), parts.get("context"), in_shape, where(key), precision)
        except ConfigError as error:
            for argument in CHANNELS:
                if (given := spec.arguments.get(argument, channels)) != channels:
                    raise ConfigError(
                        f"{where(f'{place}.{argument}')}: is {given}, and its input has {channels} channels, "
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
