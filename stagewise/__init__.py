"""Train deep encoders stage by stage, each in the memory of one gradient-isolated module.

import stagewise
run = stagewise.open("runs/quickstart")     # read only
encoder = run.encoder("context")            # a frozen torch.nn.Module
stagewise.run("pipelines/quickstart.toml")  # what the command does
encoder = stagewise.load("encoder")         # the frozen torch.nn.Module that `stagewise export` wrote
rows = encoder.embed("talk.flac")           # float32 (rows, channels): what `stagewise embed` writes
stagewise.export(encoder, "tuned")          # written again, once its weights were tuned
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from stagewise.libraries import VERSION as __version__  # noqa: N811 (the name that tools look for)

# Looked up on first use: `stagewise --help` must not wait for torch.
_PUBLIC = {
    "open": "stagewise.frozen.open:open_run",
    "run": "stagewise.runner:run_pipeline",
    "load": "stagewise.frozen.export:load_export",
    "export": "stagewise.frozen.export:export_encoder",
    "objectives": "stagewise.objectives",
    "datasets": "stagewise.datasets",
    "modules": "stagewise.modules",
}

if TYPE_CHECKING:
    from stagewise import datasets, modules, objectives
    from stagewise.frozen.export import export_encoder as export
    from stagewise.frozen.export import load_export as load
    from stagewise.frozen.open import open_run as open  # noqa: A004
    from stagewise.runner import run_pipeline as run

__all__ = ["__version__", "datasets", "export", "load", "modules", "objectives", "open", "run"]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'stagewise' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    found = import_module(module)
    return getattr(found, attribute) if attribute else found
