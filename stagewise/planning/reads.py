"""How a run's data set reads files, said in a few words that an export can take along."""

from __future__ import annotations

import inspect
from typing import Any

from stagewise.config import Pipeline
from stagewise.datasets import SHORT_NAMES
from stagewise.planning.build import dataset_kind

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
        parameters = inspect.signature(dataset_kind(pipeline)).parameters
        sizes = {name: each.default for name, each in parameters.items()} | pipeline.data.arguments
    return {
        "target": pipeline.data.target,
        "kind": kind,
        "short_side": sizes.get("size"),
        "crop": sizes.get("crop"),
        "arguments": {} if kind else pipeline.data.arguments,
    }
