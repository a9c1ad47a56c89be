"""probe.json: what a probe found, written last; a probe is done if and only if it is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stagewise import atomic
from stagewise.errors import IntegrityError
from stagewise.runs.shape import ProbeResult, checked

RESULT = "probe.json"
TENSORS = "probe.safetensors"


def read_probe(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the result of a probe, None if it is not done.

    Args:
        folder: of the probe.
        name: of the probe, for messages.

    Raises:
        IntegrityError: the result is not what was written.
    """
    path = folder / RESULT
    if not path.exists():
        return None
    remedy = f"Delete {folder} and type `stagewise probe {name}`."
    return checked(ProbeResult, atomic.read_sealed(path, remedy), path, remedy)


def probe_problem(folder: Path, name: str) -> str:
    """Say what is wrong with the files of a probe that is done, "" if nothing."""
    remedy = f"Delete {folder} and type `stagewise probe {name}`."
    try:
        result = read_probe(folder, name)
        if result is not None and atomic.sha256_of(folder / TENSORS) != result.get("sha256"):
            return f"{folder / TENSORS} is not what was written. {remedy}"
    except IntegrityError as error:
        return str(error)
    except OSError as error:
        return f"{folder / TENSORS} cannot be read ({error.strerror}). {remedy}"
    return ""
