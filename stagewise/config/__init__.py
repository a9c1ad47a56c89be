"""The pipeline file: read, merged with its defaults and overrides, validated, and turned into objects."""

from stagewise.config.json_schema import json_schema
from stagewise.config.load import from_json, load_pipeline, load_text, to_json
from stagewise.config.overrides import Overrides
from stagewise.config.schema import Data, Objective, Pipeline, Probe, Settings, Spec, Stage, Store, Train
from stagewise.config.targets import build, files_of, refusals, resolve, without_files

__all__ = [
    "Data",
    "Objective",
    "Overrides",
    "Pipeline",
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
    "to_json",
    "without_files",
]
