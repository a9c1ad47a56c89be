"""`--set KEY=VALUE` and its form in Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pipeline_examples import EXAMPLE, MINIMAL, problems_of

from stagewise.errors import ConfigError
from stagewise.pipeline import load_text
from stagewise.pipeline.read import parse_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("2e-4", 2e-4),
        ("true", True),
        ('"2"', "2"),
        ("'a b'", "a b"),
        ("[1, 2]", [1, 2]),
        ("{ a = 1 }", {"a": 1}),
        ("3 # three", 3),
        ("float32", "float32"),
        ("3 GiB", "3 GiB"),
        ("/a b/c", "/a b/c"),
        ("/a=b#c", "/a=b#c"),
        ("2024-01-31", "2024-01-31"),
        ("10:00:00", "10:00:00"),
        ("[1, 2", "[1, 2"),
        ("1\nother = 2", "1\nother = 2"),
        ("", ""),
    ],
)
def test_values(text: str, value: object) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_the_keys_that_are_set_most() -> None:
    pipeline = load_text(
        EXAMPLE,
        "x.toml",
        [
            "pipeline.seed=7",
            "pipeline.memory_limit=1 GiB",
            "pipeline.disk_limit=5",
            "data.root=/a b/c",
            "data.splits.train=lists/train.txt",
            "data.phones=phones.txt",
            "defaults.train.epochs=2",
            "defaults.train.batch_size = 4",
            "defaults.store.dtype=float32",
        ],
    )
    assert (pipeline.pipeline.seed, pipeline.pipeline.memory_limit, pipeline.pipeline.disk_limit) == (
        7,
        2**30,
        5,
    )
    assert pipeline.data.arguments == {
        "root": "/a b/c",
        "splits": {"train": "lists/train.txt", "test": "..."},
        "bad_items": "error",
        "phones": "phones.txt",
    }
    for stage in pipeline.stage:
        assert (stage.train.epochs, stage.train.batch_size, stage.store.dtype) == (2, 4, "float32")


def test_items_of_lists_by_name_and_by_number() -> None:
    sets = [
        "stage.conv1.train.epochs=2",
        "stage.2.train.epochs=3",
        "probe.1.labels=phones",
        "probe.speaker.hidden=4",
    ]
    pipeline = load_text(EXAMPLE, "x.toml", sets)
    assert [stage.train.epochs for stage in pipeline.stage] == [2, 3]
    assert (pipeline.probe[0].labels, pipeline.probe[0].hidden) == ("phones", 4)


def test_a_name_comes_before_a_number() -> None:
    text = MINIMAL + '[[stage]]\nname = "1"\ncontext = { target = "gru" }\n'
    pipeline = load_text(text, "x.toml", ["stage.1.train.epochs=2"])
    assert [stage.train.epochs for stage in pipeline.stage] == [1000, 2]


def test_a_name_with_a_dot_is_quoted() -> None:
    text = MINIMAL.replace('"conv1"', '"conv.1"')
    assert load_text(text, "x.toml", ['stage."conv.1".train.epochs=2']).stage[0].train.epochs == 2


def test_a_stage_wins_over_an_overridden_default_and_the_last_override_wins() -> None:
    text = MINIMAL + "train = { epochs = 5 }\n"
    sets = ["defaults.train.epochs=2", "defaults.train.patience=3", "defaults.train.patience=4"]
    (stage,) = load_text(text, "x.toml", sets).stage
    assert (stage.train.epochs, stage.train.patience) == (5, 4)


def test_the_form_in_python_leaves_its_values_alone() -> None:
    splits = {"train": "a", "test": "b"}
    sets: dict[str, Any] = {
        "data.root": Path("/data"),
        "data.splits": splits,
        "data.splits.test": "c",
        "pipeline.memory_limit": None,
        "stage.conv1.train.epochs": 2,
    }
    pipeline = load_text(EXAMPLE, "x.toml", sets)
    assert pipeline.data.arguments["root"] == "/data"
    assert pipeline.data.arguments["splits"] == {"train": "a", "test": "c"}
    assert splits == {"train": "a", "test": "b"}
    assert pipeline.pipeline.memory_limit is None
    assert pipeline.stage[0].train.epochs == 2


def test_a_value_that_no_file_could_hold() -> None:
    assert problems_of(MINIMAL, {"data.root": {1, 2}}) == [
        "--set data.root: needs text, a number, true, false, a list or a table, not a value of type set"
    ]


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            "stage.conv9.train.epochs=2",
            'no stage is called "conv9" (did you mean "conv1"?); there are: conv1',
        ),
        ("stage.2.train.epochs=2", 'no stage is called "2"; there are: conv1'),
        ("stage.0=2", 'no stage is called "0"; there are: conv1'),
        ("probe.speaker.epochs=2", "the file has no probe"),
        ("data.target.x=2", 'data.target is "synthetic-speech", which has no keys'),
        ("data.sizes.3=2", 'no data.sizes is called "3"; it has 2 items'),
    ],
)
def test_overrides_that_fit_nowhere(override: str, problem: str) -> None:
    text = MINIMAL.replace("[data]\n", "[data]\nsizes = [1, 2]\n")
    assert problems_of(text, [override]) == [f"--set {override.split('=')[0]}: {problem}"]


@pytest.mark.parametrize("override", ["data.root", "=3", "a b=3", "data..root=3", "", "stage.é.x=1"])
def test_what_is_not_an_override(override: str) -> None:
    assert problems_of(MINIMAL, [override]) == [
        f"--set {override}: write KEY=VALUE, for instance --set defaults.train.epochs=2"
    ]


def test_a_bad_key_in_python() -> None:
    assert problems_of(MINIMAL, {"a b": 1}) == ['--set a b: "a b" is not a key']


def test_mistakes_are_located_at_the_override_after_those_of_the_file() -> None:
    text = MINIMAL + "train = { epoch = 3 }\n"
    sets = [
        "defaults.train.batch_size=0",
        'stage.1.encoder={ target = "gru", x = nan }',
        "stage.conv1.context.size=3",
        "pipeline.sed=1",
        "nowhere",
    ]
    assert problems_of(text, sets) == [
        'x.toml:9: stage.conv1.train.epoch: unknown key (did you mean "epochs"?)',
        "--set nowhere: write KEY=VALUE, for instance --set defaults.train.epochs=2",
        "--set stage.1.encoder: stage.conv1.encoder.x: needs a finite number, not nan",
        "--set defaults.train.batch_size: needs to be at least 1, not 0",
        '--set pipeline.sed: unknown key (did you mean "seed"?)',
        "--set stage.conv1.context.size: stage.conv1.context.target: is missing: "
        'The class: a short name, or "package.module:Class".',
    ]


def test_an_override_can_repair_the_file() -> None:
    text = MINIMAL + "train = { epochs = -3 }\n"
    assert load_text(text, "x.toml", ["stage.conv1.train.epochs=3"]).stage[0].train.epochs == 3


FILE = (
    MINIMAL
    + """
[defaults.train]
epochs = 2
optimizer = { target = "torch.optim:Adam", lr = 1e-3 }
[[probe]]
name = "a"
stages = "all"
labels = "x"
[[probe]]
name = "b"
stages = "all"
labels = "y"
epochs = 7
"""
)


def test_keys_tables_and_items_are_taken_away() -> None:
    whole = load_text(FILE, "x.toml")
    assert (whole.stage[0].train.epochs, len(whole.probe)) == (2, 2)
    some = load_text(FILE, "x.toml", unset=["defaults.train.epochs", "probe.a"])
    assert some.stage[0].train.epochs == 1000
    assert some.stage[0].train.optimizer == whole.stage[0].train.optimizer
    assert [probe.name for probe in some.probe] == ["b"]
    assert some.where("probe.b.epochs") == whole.where("probe.b.epochs")  # its line, though it is the first one now
    assert [probe.name for probe in load_text(FILE, "x.toml", unset=["probe.2"]).probe] == ["a"]
    assert load_text(FILE, "x.toml", unset=["defaults.train"]).stage[0].train.optimizer.arguments == {"lr": 2e-4}


def test_numbers_of_what_is_taken_away_are_those_of_the_file() -> None:
    third = FILE + '[[probe]]\nname = "c"\nstages = "all"\nlabels = "z"\n'
    for unset in (["probe.1", "probe.2"], ["probe.2", "probe.1"], ["probe.a", "probe.2", "probe.1", "probe.2.epochs"]):
        left = load_text(third, "x.toml", unset=unset)
        assert [probe.name for probe in left.probe] == ["c"]
        assert left.where("probe.c.labels") == load_text(third, "x.toml").where("probe.c.labels")


def test_keys_are_taken_away_before_others_are_set() -> None:
    made = load_text(FILE, "x.toml", ["defaults.train.epochs=3"], ["defaults.train", "probe"])
    assert (made.stage[0].train.epochs, made.probe) == (3, ())


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("defaults.train.epoch", '--unset defaults.train.epoch: the file does not say it (did you mean "epochs"?)'),
        ("default.train", '--unset default.train: the file does not say it (did you mean "defaults"?)'),
        ("probe.c", '--unset probe.c: no probe is called "c"; there are: a, b'),
        ("format.x", "--unset format.x: format is 1, which has no keys"),
        ("a b", '--unset a b: "a b" is not a key'),
    ],
)
def test_what_is_not_there_cannot_be_taken_away(key: str, words: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_text(FILE, "x.toml", unset=[key])
    assert words in str(error.value)


def test_what_is_needed_cannot_be_taken_away() -> None:
    with pytest.raises(ConfigError, match=r"x.toml:\d+: pipeline.name: is missing: Name of the pipeline"):
        load_text(FILE, "x.toml", unset=["pipeline.name"])
