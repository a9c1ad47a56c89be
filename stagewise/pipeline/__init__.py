"""The pipeline file: read, merged with its defaults and overrides, validated, and turned into objects."""

from stagewise.pipeline.identity import json_schema
from stagewise.pipeline.read import Overrides, from_json, load_pipeline, load_text
from stagewise.pipeline.schema import Data, Objective, Pipeline, Pool, Probe, Settings, Spec, Stage, Store, Train
from stagewise.pipeline.targets import build, files_of, refusals, resolve, without_files

__all__ = [
    "Data",
    "Objective",
    "Overrides",
    "Pipeline",
    "Pool",
    "Probe",
    "Settings",
    "Spec",
    "Stage",
    "Store",
    "Train",
    "build",
    "files_of",
    "from_json",
    "json_schema",
    "load_pipeline",
    "load_text",
    "refusals",
    "resolve",
    "without_files",
]
