"""Two slots, written in turn: whatever moment a kill comes, the newest whole one is there to go on from."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from stagewise import durable
from stagewise.errors import IntegrityError

SLOTS = ("a", "b")
REFUSED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM)  # the slot may be whole


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next step depends on.

    Attributes:
        number: counts up with every checkpoint of a stage.
        progress: JSON-able position and history of the training.
        tensors: by name; on the CPU when loaded.
    """

    number: int
    progress: dict[str, Any]
    tensors: dict[str, Tensor]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the slot that does not hold the newest checkpoint; its JSON, written last, makes it valid.

    Raises:
        DiskError: the disk is full or failing; the other slot is still valid.
    """
    slot = folder / SLOTS[checkpoint.number % 2]
    with durable.disk_errors(slot):
        slot.mkdir(parents=True, exist_ok=True)
        (slot / "state.json").unlink(missing_ok=True)
        durable.fsync_folder(slot)
    digest = write_tensors(slot / "state.safetensors", checkpoint.tensors)
    state = {"format": 1, "number": checkpoint.number, "sha256": digest, "progress": checkpoint.progress}
    durable.write_sealed(slot / "state.json", state)


def load_checkpoint(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """Return the newest valid checkpoint, and a line for every slot that was discarded."""
    found: list[Checkpoint] = []
    discarded: list[str] = []
    for name in SLOTS:
        slot = folder / name
        if not slot.exists():
            continue
        try:
            state = durable.read_sealed(slot / "state.json", "The other slot is used.")
            if durable.sha256_of(slot / "state.safetensors") != state["sha256"]:
                raise IntegrityError(f"{slot / 'state.safetensors'} is not what was written.")
            found.append(Checkpoint(state["number"], state["progress"], read_tensors(slot / "state.safetensors")))
        except (IntegrityError, OSError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in REFUSED:
                raise  # no reason to give up what was trained
            discarded.append(f"checkpoint {slot} is discarded: {error}")
    return max(found, key=lambda c: c.number, default=None), discarded


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file durably and return its sha256; the same tensors give the same bytes."""
    return durable.write_bytes(path, serialised(tensors))


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 of the file that `write_tensors` would write."""
    return hashlib.sha256(serialised(tensors)).hexdigest()


def serialised(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the bytes of a safetensors file; the same tensors give the same bytes."""
    apart: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        # safetensors refuses tensors that share memory, such as tied weights.
        apart[name] = tensor.clone() if tensor.untyped_storage().data_ptr() in seen else tensor
        seen.add(tensor.untyped_storage().data_ptr())
    return bytes(save(apart))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU.

    Raises:
        IntegrityError: it is not one.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise IntegrityError(
            f"{path} is damaged ({error}). Delete its stage's folder, then type the command again."
        ) from error


def state_of(modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer | None) -> dict[str, Tensor]:
    """Collect the tensors of modules and of an optimizer under one flat set of names."""
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    if optimizer is not None:
        for number, state in optimizer.state_dict()["state"].items():
            for key, value in state.items():
                tensors[f"optimizer.{number}.{key}"] = torch.as_tensor(value)
    return tensors


def restore(
    tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer | None
) -> None:
    """Put back what `state_of` collected.

    Raises:
        IntegrityError: the names or shapes are not those of the modules.
    """
    for name, module in modules.items():
        own = {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise IntegrityError(
                f"stored weights do not fit {name}: {error}. Delete its stage's folder, then type the command again."
            ) from error
    if optimizer is None:
        return
    states: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".", 2)
            states.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            # Fused optimizers take numbers as they lie in memory: each parameter's state must lie as it does.
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[key] = torch.empty_like(parameter.detach(), dtype=value.dtype).copy_(value)
