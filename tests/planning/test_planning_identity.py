"""Every key of a pipeline file is either part of what a result is known by, or cannot change it: decided for each."""

import hashlib
import json
import sys
import types
from pathlib import Path

import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from stagewise.errors import ConfigError
from stagewise.objectives import InfoNCE
from stagewise.pipeline import from_json, load_text, schema
from stagewise.planning.changes import probe_identity
from stagewise.probing.run import planned_probes
from stagewise.runner import plan_pipeline, quiet
from stagewise.runs.folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_peaks")

NOWHERE = RunFolder(Path("/nowhere/at/all"))
OWN = {"target": "torch.optim:SGD", "lr": 0.5}
NOTHING = "nothing"

# What of a stage, or of a probe, is known by another name when a key of a table changes, and the change.
# "train": its weights; "store": its rows alone; "probe": the probe.
DECISIONS = {
    "Settings": {
        "name": (NOTHING, "pipeline.name", "other"),
        "system": (NOTHING, "pipeline.system", "gim"),
        "seed": ("train", "pipeline.seed", 1),
        "schedule": ("train", "pipeline.schedule", "simultaneous"),
        "memory_limit": (NOTHING, "pipeline.memory_limit", "1 GiB"),  # pieces: the same sums in another order
        "disk_limit": (NOTHING, "pipeline.disk_limit", "1 GiB"),  # but for what it decides: whether a store is written
        "device": (NOTHING, "pipeline.device", "auto"),  # recorded; of a probe, see below
        "threads": (NOTHING, "pipeline.threads", 1),  # recorded
    },
    "Spec": {"target": ("train", "stage.two.encoder.target", "test_planning_identity:Wider")},
    "Data": {
        "target": ("train", "data.target", "test_planning_identity:Other"),
        "validation": ("train", "data.validation", 0.3),
        "(arguments)": ("train", "data.seed", 3),
    },
    "Objective": {
        "target": ("train", "stage.two.objective", {"target": "test_planning_identity:OtherLoss", "window": 16}),
        "window": ("train", "stage.two.objective.window", 17),
        "(arguments)": ("train", "stage.two.objective.steps", 4),
    },
    "Train": {
        "epochs": ("train", "stage.two.train.epochs", 3),
        "patience": ("train", "stage.two.train.patience", 3),
        "batch_size": ("train", "stage.two.train.batch_size", 3),
        "windows_per_item": ("train", "stage.two.train.windows_per_item", "cover"),
        "precision": ("train", "stage.two.train.precision", "bfloat16"),
        "optimizer": ("train", "stage.two.train.optimizer", OWN),
        "checkpoint": (NOTHING, "stage.two.train.checkpoint", "1 s"),
        "clip_gradient_norm": ("train", "stage.two.train.clip_gradient_norm", 2.0),
        "every": ("train", "stage.two.train.every", 2),
        "noise": ("train", "stage.two.train.noise", 0.5),
        "schedule": ("train", "stage.two.train.schedule", {"target": "warmup-cosine"}),
    },
    "Store": {
        "write": ("store", "stage.two.store.write", False),
        "dtype": ("store", "stage.two.store.dtype", "float16"),
        "compress": (NOTHING, "stage.two.store.compress", "zstd"),
        "keep": (NOTHING, "stage.two.store.keep", False),
    },
    "Stage": {
        "name": ("train", "stage.two.name", "second"),
        "encoder": ("train", "stage.two.encoder.padding", 3),
        "context": ("train", "stage.two.context", {"target": "gru", "input_size": 8, "hidden_size": 8}),
    },
    "Probe": {
        "name": ("probe", "probe.speaker.name", "voice"),
        "stages": (NOTHING, "probe.speaker.stages", ["two"]),  # which there are, not what they say
        "labels": ("probe", "probe.speaker.labels", "other"),
        "pool": ("probe", "probe.phones.pool", "mean"),
        "label_offset": ("probe", "probe.phones.label_offset", 0),
        "hidden": ("probe", "probe.speaker.hidden", 3),
        "epochs": ("probe", "probe.speaker.epochs", 9),
        "batch_size": ("probe", "probe.speaker.batch_size", 9),
        "optimizer": ("probe", "probe.speaker.optimizer", OWN),
        "data": ("probe", "probe.speaker.data", {"target": "tiny:TinySpeech", "seed": 5}),
        "random": (NOTHING, "probe.speaker.random", True),  # another probe beside it
    },
}
# Tables of tables, and the version of the format: each of their keys is a table above.
ONLY_TABLES = {"Pipeline", "PipelineFile", "Defaults", "ProbeDefaults"}
TABLES = {"objective", "train", "store"}
# Set before and after the change, where a key means nothing without.
NEEDS = {"Train.every": {"pipeline.schedule": "simultaneous"}}


class Wider(tiny.Conv1d):
    pass


class OtherLoss(InfoNCE):
    pass


class Other(tiny.TinySpeech):
    """Another data set, with other labels beside, of both kinds."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.labels = {**self.labels, "other": self.labels["speaker"]}
        self.digest = hashlib.sha256(b"other" + self.digest.encode()).hexdigest()


def models():
    return [kind for kind in vars(schema).values() if isinstance(kind, type) and issubclass(kind, schema._Table)]


def test_every_key_has_a_decision():
    """A new key fails here until somebody has thought about it."""
    for kind in models():
        assert issubclass(kind, BaseModel)
        if kind is schema._Table or kind.__name__ in ONLY_TABLES:
            continue
        decided = set(DECISIONS[kind.__name__]) - {"(arguments)"}
        expected = set(kind.model_fields) - (TABLES if kind is schema.Stage else set())
        assert decided == expected, kind.__name__
    assert set(schema.Pipeline.model_fields) == {"format", "pipeline", "data", "stage", "probe"}
    assert set(schema.Defaults.model_fields) == {"train", "objective", "store", "probe"}
    assert set(schema.ProbeDefaults.model_fields) == set(schema.Probe.model_fields) - {"name"}


TEXT = tiny.TOML.replace('target = "tiny:TinySpeech"', 'target = "test_planning_identity:Labelled"')


class Labelled(Other):
    """The same as Other, but for its name."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.digest = hashlib.sha256(b"labelled" + self.digest.encode()).hexdigest()


def known_by(text=TEXT, sets=()):
    """What stage two is known by, and the probes on it by name; of one stage alone the schedule changes nothing."""
    plan = plan_pipeline(load_text(text, "x.toml", dict(sets)), NOWHERE, quiet)
    stage = plan.stages[1]
    probes = {f"{p.probe.name} on {p.stage}": p.fingerprint for p in planned_probes(plan)}
    return stage.identity, {p.name: p.fingerprint for p in plan.stages}, probes


@pytest.fixture(scope="module")
def base():
    return known_by()


CASES = {f"{table}.{key}": decision for table, keys in DECISIONS.items() for key, decision in keys.items()}


@pytest.mark.parametrize("case", CASES)
def test_a_key_changes_what_it_should(case, base):
    decision, key, value = CASES[case]
    needs = NEEDS.get(case, {})
    before = known_by(sets=needs) if needs else base
    if case == "Probe.pool":  # needs a label of the other kind
        needs = {"probe.phones.labels": "speaker"}
        text = TEXT.replace('stages = ["context"]\nlabels = "phones"', 'stages = ["context"]\nlabels = "speaker"')
        with pytest.raises(Exception, match='set pool = "mean"'):
            known_by(text)
        after = known_by(text, {key: value})
        assert after[:2] == before[:2]
        assert after[2]["phones on context"] != before[2]["phones on context"]
        return
    after = known_by(sets={**needs, key: value})
    if decision == "train":
        assert after[0]["train"] != before[0]["train"]
        assert after[1].values() != before[1].values()
    elif decision == "store":
        assert (after[0]["train"], after[0]["store"] == before[0]["store"]) == (before[0]["train"], False)
        assert after[1]["two"] != before[1]["two"]
    else:
        assert after[:2] == before[:2]
    others = {name: digest for name, digest in after[2].items() if before[2].get(name) == digest}
    if decision == "probe":
        own = key.split(".")[1]
        assert set(others) == {name for name in before[2] if not name.startswith(f"{own} ")}
    elif decision in ("train", "store"):  # all that lies above, or is read from it
        assert not any(name.endswith((" two", " context")) for name in others)
    else:
        assert set(others) == set(after[2])


def test_another_kind_of_device_is_another_probe():
    pipeline = load_text(TEXT, "x.toml")
    one, other = (probe_identity(pipeline.probe[0], pipeline.data, 0, "s", "d", "l", kind) for kind in ("cpu", "cuda"))
    assert one != other


@pytest.mark.parametrize("what", ["encoder", "objective", "data"])
def test_an_edited_source_of_ones_own_is_named(tmp_path, monkeypatch, what):
    """Of every base class, too, but not of what a class imports: that is not followed."""
    monkeypatch.syspath_prepend(tmp_path)
    kind, key = {
        "encoder": ("stagewise.modules:Conv1d", "stage.one.encoder.target"),
        "objective": ("stagewise.objectives:InfoNCE", "stage.one.objective.target"),
        "data": ("tiny:TinySpeech", "data.target"),
    }[what]
    module, name = kind.split(":")
    base_file, own_file = tmp_path / f"own_base_{what}.py", tmp_path / f"own_{what}.py"
    base_file.write_text(f"from {module} import {name}\nclass Base({name}):\n    number = 1\n")
    own_file.write_text(f"from own_base_{what} import Base\nclass Mine(Base):\n    number = 1\n")
    sets = {key: f"own_{what}:Mine", "probe.speaker.random": True}

    def go():
        for file in (own_file, base_file):
            sys.modules.pop(file.stem, None)
        plan = plan_pipeline(load_text(tiny.TOML, "x.toml", sets), NOWHERE, quiet)
        random = {probe.fingerprint for probe in planned_probes(plan) if probe.random}
        return plan.stages[0].identity["train"], plan.stages[0].fingerprint, frozenset(random)

    seen = [go()]
    for file in (own_file, base_file):
        file.write_text(file.read_text().replace("number = 1", "number = 23"))
        seen.append(go())
    assert len({fingerprint for _, fingerprint, _ in seen}) == 3
    assert len({random for _, _, random in seen}) == (1 if what == "objective" else 3)
    differing = {k for k in seen[0][0] if seen[0][0][k] != seen[1][0][k]}
    assert differing == {f"source of own_{what}:Mine"}
    assert go() == seen[-1]


def test_a_class_in_no_file_is_refused_and_one_in_a_compiled_file_is_hashed(tmp_path, monkeypatch):
    """A change of it could not be noticed; what it is compiled to can be read."""
    module = types.ModuleType("typed_in")
    exec("from stagewise.modules import Conv1d\nclass Mine(Conv1d):\n    pass\n", vars(module))
    monkeypatch.setitem(sys.modules, "typed_in", module)
    pipeline = load_text(tiny.TOML, "x.toml", {"stage.one.encoder.target": "typed_in:Mine"})
    with pytest.raises(
        ConfigError, match=r"^typed_in:Mine: Mine is in no file \(typed_in\), so that a change of it could"
    ):
        plan_pipeline(pipeline, NOWHERE, quiet)
    seen = []
    for content in (b"one", b"two"):
        module.__file__ = str(tmp_path / "typed_in.so")
        (tmp_path / "typed_in.so").write_bytes(content)
        seen.append(plan_pipeline(pipeline, NOWHERE, quiet).stages[0].fingerprint)
    assert len(set(seen)) == 2


DEFAULTS = {
    "stage.one.store.keep": st.just(True),
    "stage.one.train.patience": st.just(20),
    "stage.two.train.noise": st.sampled_from([0, 0.0]),
    "stage.two.train.every": st.just(1),
    "stage.two.train.checkpoint": st.sampled_from(["10 min", 600, 600.0]),
    "pipeline.seed": st.just(0),
    "probe.speaker.batch_size": st.just(64),
    "probe.phones.label_offset": st.just(-1),
}


@st.composite
def written(draw, tree):
    """Write a pipeline as TOML in one of many ways; what is at its default may be left out."""

    def value(x):
        if isinstance(x, str):
            return f"'{x}'" if draw(st.booleans()) else json.dumps(x)
        if isinstance(x, dict):
            return "{ " + ", ".join(f"{k} = {value(v)}" for k, v in shuffled(x) if v is not None) + " }"
        if isinstance(x, list):
            return "[" + ", ".join(map(value, x)) + ("," if draw(st.booleans()) and x else "") + "]"
        return json.dumps(x)

    def shuffled(table):
        return draw(st.permutations(list(table.items())))

    lines = ["format=1"]
    for name in draw(st.permutations(["pipeline", "data", "stage", "probe"])):
        for table in tree[name] if isinstance(tree[name], list) else [tree[name]]:
            lines.append(f"[[{name}]]" if isinstance(tree[name], list) else f"[{name}]")
            for key, inner in shuffled(table):
                if inner is None:
                    continue
                lines.append(
                    f"{' ' * draw(st.integers(0, 2))}{key} = {value(inner)}"
                    + draw(st.sampled_from(["", " # why", " "]))
                )
            lines += draw(st.sampled_from([[], ["", "# a comment"]]))
    return "\n".join(lines) + "\n"


TREE = load_text(TEXT, "x.toml").model_dump(mode="json")


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_how_a_file_is_written_is_no_matter(data):
    """Order of keys, spelling of tables, comments, quotes, spaces, defaults written out or left out."""
    pipeline = load_text(data.draw(written(TREE)), "y.toml")
    assert pipeline == load_text(TEXT, "x.toml", {key: data.draw(values) for key, values in DEFAULTS.items()})
    assert from_json(json.loads(json.dumps(pipeline.model_dump(mode="json")))) == pipeline


@settings(max_examples=2, deadline=None)
@given(written(TREE))
def test_nor_is_it_in_what_results_are_known_by(base, text):
    assert known_by(text) == base
