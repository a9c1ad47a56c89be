"""Read an export: the frozen encoder that a run gave, without the run."""

from __future__ import annotations

from pathlib import Path

from stagewise import atomic
from stagewise.errors import IntegrityError
from stagewise.exporting.settings import CONFIG, REMEDY, WEIGHTS, build_encoder, read_settings
from stagewise.runs.frozen import FrozenEncoder
from stagewise.training.checkpoint import read_tensors


def load_export(path: str | Path) -> FrozenEncoder:
    """Return the frozen module that `stagewise export` wrote to a folder: the same as `run.encoder(stage)`.

    x (B, C, T) or (B, C, H, W), standardised with `.mean` and `.std`, → representation. Classes of your own are
    imported by name, from what is installed or on PYTHONPATH.

    Raises:
        ConfigError: the folder is no export, or names classes that are not there or are no modules.
        IntegrityError: one of its files is not what was written.
    """
    folder = Path(path)
    settings = read_settings(folder)
    for name, digest in settings.files.items():
        file = folder / name
        if not file.is_file():
            raise IntegrityError(f"{file} is missing. {REMEDY}")
        if atomic.sha256_of(file) != digest:
            raise IntegrityError(f"{file} is not what was written. {REMEDY}")
    encoder = build_encoder(settings, str(folder / CONFIG))
    try:
        encoder.load_state_dict(read_tensors(folder / WEIGHTS))
    except (RuntimeError, IntegrityError) as error:
        raise IntegrityError(f"{folder / WEIGHTS} does not fit {folder / CONFIG}: {error}. {REMEDY}") from None
    return encoder
