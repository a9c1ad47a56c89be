"""Read an export: the frozen encoder that a run gave, without the run."""

from __future__ import annotations

from pathlib import Path

from stagewise import atomic
from stagewise.errors import IntegrityError
from stagewise.exporting.settings import CONFIG, REMEDY, WEIGHTS, encoder_of, read_settings
from stagewise.runs.frozen import FrozenEncoder, Origin
from stagewise.training.checkpoint import read_tensors


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
        raise IntegrityError(f"{weights} is missing. {REMEDY}")
    if atomic.sha256_of(weights) != settings.files[WEIGHTS]:
        raise IntegrityError(f"{weights} is not what was written. {REMEDY}")
    encoder = encoder_of(settings, str(folder / CONFIG))
    try:
        encoder.load_state_dict(read_tensors(weights))
    except RuntimeError as error:
        raise IntegrityError(f"{weights} does not fit {folder / CONFIG}: {error}. {REMEDY}") from None
    encoder.origin = Origin(settings.pipeline, settings.tuned, {"": settings.files[WEIGHTS]})
    return encoder
