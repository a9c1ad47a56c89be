"""What a good file says, in Python and in JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline_examples import EXAMPLE, MINIMAL

from stagewise.errors import ConfigError
from stagewise.pipeline import Pipeline, from_json, load_pipeline, load_text


def test_the_example_of_the_design() -> None:
    pipeline = load_text(EXAMPLE, "x.toml")
    assert pipeline.pipeline.name == "librispeech"
    assert pipeline.pipeline.memory_limit == 3 * 1024**3
    assert pipeline.pipeline.disk_limit == 200 * 1024**3
    assert pipeline.data.target == "librispeech"
    assert pipeline.data.validation == 0.05
    assert pipeline.data.arguments == {
        "root": "data/LibriSpeech",
        "splits": {"train": "...", "test": "..."},
        "bad_items": "error",
    }
    conv1, context = pipeline.stage
    assert conv1.encoder is not None
    assert conv1.encoder.target == "conv1d"
    assert conv1.encoder.arguments == {
        "in_channels": 1,
        "out_channels": 512,
        "kernel_size": 10,
        "stride": 5,
        "padding": 2,
    }
    assert conv1.context is None
    assert context.encoder is None
    for stage in pipeline.stage:
        assert (stage.train.epochs, stage.train.patience, stage.train.batch_size) == (1000, 20, 8)
        assert stage.train.checkpoint == 600.0
        assert stage.train.optimizer.arguments == {"lr": 2e-4}
        assert stage.objective.target == "infonce"
        assert stage.objective.window == 128
        assert stage.objective.arguments == {"steps": 12, "negatives": 10}
        assert (stage.store.write, stage.store.dtype, stage.store.compress, stage.store.keep) == (
            "auto",
            "int8",
            "auto",
            True,
        )
    (probe,) = pipeline.probe
    assert (probe.stages, probe.labels, probe.pool, probe.label_offset) == ("all", "speaker", "mean", -1)
    assert probe.optimizer.arguments == {"lr": 1e-3}


def test_the_smallest_file_has_every_default() -> None:
    pipeline = load_text(MINIMAL, "x.toml")
    assert pipeline.model_dump(mode="json") == {
        "format": 1,
        "pipeline": {
            "name": "small",
            "system": None,
            "seed": 0,
            "schedule": "iterative",
            "memory_limit": None,
            "disk_limit": None,
            "device": "auto",
            "threads": None,
        },
        "data": {"target": "synthetic-speech", "validation": 0.05},
        "stage": [
            {
                "name": "conv1",
                "encoder": {"target": "conv1d"},
                "context": None,
                "objective": {"target": "infonce", "window": 128},
                "train": {
                    "epochs": 1000,
                    "patience": 20,
                    "batch_size": 8,
                    "windows_per_item": 1,
                    "precision": "auto",
                    "optimizer": {"target": "torch.optim:Adam", "lr": 2e-4},
                    "schedule": None,
                    "checkpoint": 600.0,
                    "clip_gradient_norm": None,
                    "every": 1,
                    "noise": 0.0,
                },
                "store": {"write": "auto", "dtype": "int8", "compress": "auto", "keep": True},
            }
        ],
        "probe": [],
    }


def test_every_way_to_write_a_value() -> None:
    text = MINIMAL + (
        'train.windows_per_item = "cover"\ntrain.checkpoint = 5\ntrain.clip_gradient_norm = 1\n'
        'train.optimizer = { target = "torch.optim:SGD" }\n'
        "store = { write = false, keep = false }\n"
        '[[probe]]\nname = "p"\nstages = ["conv1"]\nlabels = "x"\nhidden = 16\n'
        'data = { target = "a.b:C", root = "r" }\n'
    )
    pipeline = load_text(text, "x.toml", ["pipeline.device=cuda:1", "pipeline.threads=2", "pipeline.memory_limit=1000"])
    (stage,) = pipeline.stage
    assert (stage.train.windows_per_item, stage.train.checkpoint, stage.train.clip_gradient_norm) == (
        "cover",
        5.0,
        1.0,
    )
    assert stage.train.optimizer.arguments == {}
    assert stage.store.write is False
    assert pipeline.probe[0].stages == ("conv1",)
    assert pipeline.probe[0].data is not None
    assert pipeline.probe[0].data.arguments == {"root": "r"}
    assert (pipeline.pipeline.device, pipeline.pipeline.threads, pipeline.pipeline.memory_limit) == (
        "cuda:1",
        2,
        1000,
    )


def test_byte_order_mark_and_dos_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xef\xbb\xbf" + EXAMPLE.replace("\n", "\r\n").encode())
    pipeline = load_pipeline(path)
    assert pipeline == load_text(EXAMPLE, "y.toml")
    assert pipeline.where("stage.conv1.encoder") == f"{path}:37: stage.conv1.encoder"


def test_where_points_at_the_file_the_default_or_the_override() -> None:
    pipeline = load_text(EXAMPLE, "x.toml", ["stage.conv1.train.epochs=2", "data.root=/r"])
    assert pipeline.where("data") == "x.toml:10: data"
    assert pipeline.where("data.root") == "--set data.root"
    assert pipeline.where("stage.conv1.encoder") == "x.toml:37: stage.conv1.encoder"
    assert pipeline.where("stage.2.context") == "x.toml:41: stage.context.context"
    assert pipeline.where("stage.conv1.objective") == "x.toml:24: defaults.objective"
    assert pipeline.where("stage.conv1.train.epochs") == "--set stage.conv1.train.epochs"
    assert pipeline.where("stage.context.train.epochs") == "x.toml:17: defaults.train.epochs"
    assert pipeline.where("stage.context.store.keep") == "x.toml:39: stage.context.store.keep"  # not written: its stage
    assert pipeline.where("probe.speaker.stages") == "x.toml:45: probe.speaker.stages"


def test_where_after_json_names_the_file() -> None:
    pipeline = from_json(load_text(EXAMPLE, "x.toml").model_dump(mode="json"), "runs/x/pipeline.lock.json")
    assert pipeline.where("stage.conv1.encoder") == "runs/x/pipeline.lock.json: stage.conv1.encoder"


def test_pipelines_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_text(EXAMPLE, "x.toml").stage = ()


def test_loading_does_not_import_torch(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(EXAMPLE)
    program = (
        "import sys, pathlib; from stagewise.pipeline import load_pipeline, json_schema; "
        f"load_pipeline(pathlib.Path({str(path)!r})); json_schema(); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


JSON_VALUES = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text("aé\n\"'"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", min_size=1), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,5}", fullmatch=True)
ARGUMENTS = st.dictionaries(
    st.sampled_from(["lr", "copy", "json", "arguments", "model_config", "x y"]), JSON_VALUES, max_size=3
)
SPECS = st.builds(lambda target, rest: {"target": target, **rest}, st.sampled_from(["gru", "a.b:C"]), ARGUMENTS)
STAGES = st.fixed_dictionaries(
    {"name": NAMES, "encoder": SPECS},
    optional={
        "context": SPECS,
        "objective": SPECS,
        "train": st.fixed_dictionaries(
            {},
            optional={
                "epochs": st.integers(0, 10**6),
                "windows_per_item": st.just("cover") | st.integers(1, 9),
                "optimizer": SPECS | ARGUMENTS,
                "checkpoint": st.sampled_from(["1 h", 3, 0.25]),
                "clip_gradient_norm": st.floats(0.1, 10),
            },
        ),
        "store": st.fixed_dictionaries(
            {}, optional={"write": st.sampled_from([True, False, "auto"]), "keep": st.booleans()}
        ),
    },
)


@given(st.lists(STAGES, min_size=1, max_size=3, unique_by=lambda stage: str(stage["name"])), SPECS, st.data())
def test_json_and_back(stages: list[dict[str, object]], data: dict[str, object], draw: st.DataObject) -> None:
    names = st.lists(st.sampled_from([stage["name"] for stage in stages]), min_size=1, unique=True)
    probe = {"name": "p", "labels": "l", "stages": draw.draw(st.just("all") | names), "data": data}
    content = {
        "format": 1,
        "pipeline": {"name": "n", "disk_limit": "1 GiB"},
        "data": data,
        "stage": stages,
        "probe": [probe],
    }
    pipeline = from_json(content)
    written = json.loads(json.dumps(pipeline.model_dump(mode="json"), allow_nan=False))
    assert written == pipeline.model_dump(mode="json")
    assert from_json(written) == pipeline
    assert from_json(written).model_dump(mode="json") == written


def test_pipelines_that_say_different_things_differ() -> None:
    one: Pipeline = load_text(EXAMPLE, "x.toml")
    assert one == load_text(EXAMPLE + "\n\n# a comment", "other.toml")
    assert one != load_text(EXAMPLE, "x.toml", ["stage.conv1.encoder.stride=4"])


def test_damaged_json_is_refused() -> None:
    content = load_text(EXAMPLE, "x.toml").model_dump(mode="json")
    content["stage"][0]["train"]["epochs"] = -1
    del content["data"]
    with pytest.raises(ConfigError) as raised:
        from_json(content, "lock.json")
    assert str(raised.value).split("\n") == [
        "lock.json: data: is missing: The data set.",
        "lock.json: stage.conv1.train.epochs: needs to be at least 0, not -1",
        "2 problems; nothing was run.",
    ]
