"""Defaults merge key by key; a table with its own target replaces the default whole."""

from __future__ import annotations

from pipeline_examples import MINIMAL, problems_of

from stagewise.pipeline import load_text
from stagewise.pipeline.schema import overlay

DEFAULTS = """
[defaults.train]
epochs = 5
optimizer = { target = "torch.optim:SGD", lr = 0.1, momentum = 0.9 }
[defaults.objective]
steps = 4
window = 64
[defaults.store]
dtype = "float16"
[defaults.probe]
stages = "all"
epochs = 3
optimizer = { weight_decay = 0.5 }
"""


def test_overlay() -> None:
    assert overlay({"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 4}, "e": 5}) == {
        "a": 1,
        "b": {"c": 2, "d": 4},
        "e": 5,
    }
    assert overlay({"a": 1}, {"target": "x"}) == {"target": "x"}
    assert overlay({"o": {"target": "x", "lr": 1}}, {"o": {"lr": 2}}) == {"o": {"target": "x", "lr": 2}}
    assert overlay({"o": {"target": "x", "lr": 1}}, {"o": {"target": "y"}}) == {"o": {"target": "y"}}
    assert overlay({"a": {"b": 1}}, {"a": 2}) == {"a": 2}


def test_a_stage_keeps_what_it_says_and_inherits_the_rest() -> None:
    text = MINIMAL + "train = { patience = 2, optimizer = { lr = 0.3 } }\nobjective = { steps = 1 }\n" + DEFAULTS
    (stage,) = load_text(text, "x.toml").stage
    assert (stage.train.epochs, stage.train.patience) == (5, 2)
    assert stage.train.optimizer.target == "torch.optim:SGD"
    assert stage.train.optimizer.arguments == {"lr": 0.3, "momentum": 0.9}
    assert (stage.objective.target, stage.objective.window, stage.objective.arguments) == (
        "infonce",
        64,
        {"steps": 1},
    )
    assert stage.store.dtype == "float16"


def test_a_target_replaces_the_default_whole_but_for_the_window_that_is_no_argument() -> None:
    text = MINIMAL + 'train.optimizer.target = "torch.optim:Adam"\nobjective = { target = "classify" }\n' + DEFAULTS
    (stage,) = load_text(text, "x.toml").stage
    assert stage.train.epochs == 5
    assert stage.train.optimizer.arguments == {}
    assert (stage.objective.target, stage.objective.window, stage.objective.arguments) == (
        "classify",
        64,
        {},
    )


def test_an_optimizer_without_a_target_changes_the_built_in_one() -> None:
    (stage,) = load_text(MINIMAL + "train.optimizer = { weight_decay = 0.1 }\n", "x.toml").stage
    assert stage.train.optimizer.target == "torch.optim:Adam"
    assert stage.train.optimizer.arguments == {"lr": 2e-4, "weight_decay": 0.1}


def test_probes_inherit_too() -> None:
    text = MINIMAL + DEFAULTS + '[[probe]]\nname = "a"\nlabels = "x"\n[[probe]]\nname = "b"\nlabels = "y"\nepochs = 9\n'
    a, b = load_text(text, "x.toml").probe
    assert (a.stages, a.epochs, b.epochs) == ("all", 3, 9)
    assert a.optimizer.arguments == {"lr": 1e-3, "weight_decay": 0.5}


def test_a_mistake_in_a_default_is_reported_once_at_its_line() -> None:
    text = (
        MINIMAL
        + '[[stage]]\nname = "b"\ncontext = { target = "gru" }\ntrain = { epochs = 3 }\n'
        + '[defaults.train]\nepochs = "many"\noptimizer = { target = 3 }\nepoch = 1\n'
        + "[defaults.probe]\nepochs = -1\n"
    )
    assert problems_of(text) == [
        'x.toml:14: defaults.train.epochs: needs a whole number, not "many"',
        "x.toml:15: defaults.train.optimizer.target: needs text in quotes, not 3",
        'x.toml:16: defaults.train.epoch: unknown key (did you mean "epochs"?)',
        "x.toml:18: defaults.probe.epochs: needs to be at least 0, not -1",
    ]


def test_a_mistake_in_a_default_that_every_stage_overrides_is_reported() -> None:
    text = MINIMAL + 'store.dtype = "int8"\n[defaults.store]\ndtype = "int4"\n'
    assert problems_of(text) == [
        'x.toml:11: defaults.store.dtype: needs "float32" or "float16" or "int8", not "int4" (did you mean "int8"?)'
    ]


def test_defaults_of_the_wrong_shape() -> None:
    assert problems_of("defaults = 3\n" + MINIMAL) == ["x.toml:1: defaults: needs a table, not 3"]
    assert problems_of("defaults.train = 3\ndefaults.probe = [1]\n" + MINIMAL) == [
        "x.toml:1: defaults.train: needs a table, not 3",
        "x.toml:2: defaults.probe: needs a table, not a list",
    ]
