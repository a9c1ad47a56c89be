"""Every mistake is reported with its line, in words, and all of them at once."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from pipeline_examples import MINIMAL, problems_of

from stagewise.errors import ConfigError
from stagewise.pipeline import load_pipeline, load_text


def test_everything_at_once_in_the_order_of_the_file() -> None:
    text = """\
format = 2
[pipeline]
name = "../../x"
sed = 1
[[stage]]
name = "conv1"
encoder = "conv1d"
train.optimizer = 3
[[stage]]
name = "conv1"
objective = { window = 1 }
[[probe]]
stages = ["conv2"]
labels = ""
"""
    assert problems_of(text) == [
        "x.toml:1: format: needs 1, not 2",
        "x.toml:1: data: is missing: The data set.",
        "x.toml:3: pipeline.name: needs a name: at most 64 letters, digits, '.', '_' and '-', "
        'the first a letter or digit; not "../../x"',
        'x.toml:4: pipeline.sed: unknown key (did you mean "seed"?)',
        'x.toml:7: stage.conv1.encoder: needs { target = …, arguments }, not "conv1d"',
        "x.toml:8: stage.conv1.train.optimizer: needs { target = …, arguments }, not 3",
        "x.toml:9: stage.conv1: needs an encoder, a context or both",
        'x.toml:10: stage.conv1.name: "conv1" names stage 1 already: choose another',
        "x.toml:11: stage.conv1.objective.window: needs to be at least 2, not 1",
        "x.toml:12: probe.1.name: is missing: Name of the probe, unique in the file.",
        'x.toml:13: probe.1.stages: no such stage: "conv2" (did you mean "conv1"?); there are: "conv1"',
        "x.toml:14: probe.1.labels: is empty: Which labels of the data set are predicted.",
    ]


def test_a_slip_of_the_pen_is_one_problem():
    assert MINIMAL.count("[data]") == 1
    (problem,) = problems_of(MINIMAL.replace("[data]", "[dat]"))
    assert problem.endswith('dat: unknown key (did you mean "data"?)')
    assert any("data: is missing" in each for each in problems_of(MINIMAL.replace("[data]", "[other]")))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("threads = 0", "threads: needs to be at least 1, not 0"),
        ("threads = true", "threads: needs a whole number, not true"),
        ("seed = 1.0", "seed: needs a whole number, not 1.0"),
        ('seed = "8"', 'seed: needs a whole number, not "8"'),
        ("seed = -1", "seed: needs to be at least 0, not -1"),
        ("seed = 99999999999999999999", "seed: needs a number of at most 64 bits"),
        ("seed = nan", "seed: needs a finite number, not nan"),
        (
            "seed = 2024-01-01",
            "seed: needs text, a number, true, false, a list or a table, not a value of type date",
        ),
        ("seed = {}", "seed: needs a whole number, not a table"),
        ('device = "gpu"', 'device: needs a device: "auto", "cpu", "cuda" or "cuda:N"; not "gpu"'),
        ("device = 3", "device: needs text in quotes, not 3"),
        (
            'schedule = "iterativ"',
            'schedule: needs "iterative" or "simultaneous", not "iterativ" (did you mean "iterative"?)',
        ),
        ('schedule = "asynchronous"', 'schedule: needs "iterative" or "simultaneous", not "asynchronous"'),
        (
            'memory_limit = "3 Gb/s"',
            'memory_limit: "3 Gb/s" is not a size: write "3 GiB", "64 MiB" or a whole number of bytes, ',
        ),
        ("memory_limit = 1e9", "memory_limit: 1000000000.0 is not a size: write"),
        ("memory-limit = 1", 'memory-limit: unknown key (did you mean "memory_limit"?)'),
        (
            "zzzzz = 1",
            "zzzzz: unknown key; there are: name, system, seed, schedule, memory_limit, disk_limit, device, threads",
        ),
        ('"\\u001b[2J" = 1', '"\\x1b[2J": unknown key; there are: name'),
        (
            'device = "\\u001b[2J"',
            'device: needs a device: "auto", "cpu", "cuda" or "cuda:N"; not "\\x1b[2J"',
        ),
        ('"a\\u0000b" = 1', "a key contains a zero character"),
    ],
)
def test_values_of_the_pipeline_table(line: str, problem: str) -> None:
    text = MINIMAL.replace('name = "small"\n', f'name = "small"\n{line}\n')
    found = problems_of(text)
    key = "pipeline" if "zero" in problem else f"pipeline.{problem}"
    assert any(each.startswith((f"x.toml:4: {key}", "x.toml:2: pipeline: a key")) for each in found), found
    assert len(found) <= 2


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "train.windows_per_item = 0",
            'train.windows_per_item: needs a whole number of at least 1, or "cover", not 0',
        ),
        (
            "train.windows_per_item = true",
            'train.windows_per_item: needs a whole number of at least 1, or "cover", not true',
        ),
        (
            'train.checkpoint = "10 minutes"',
            'train.checkpoint: "10 minutes" is not a duration: write "10 min", "30 s", "2 h" or ',
        ),
        ("train.clip_gradient_norm = 0", "train.clip_gradient_norm: needs to be more than 0, not 0"),
        ("train.clip_gradient_norm = inf", "train.clip_gradient_norm: needs a finite number, not inf"),
        ('train.clip_gradient_norm = "1"', 'train.clip_gradient_norm: needs a number, not "1"'),
        ("train.precision = 16", 'train.precision: needs "auto" or "float32" or "bfloat16", not 16'),
        ("store.write = 1", 'store.write: needs true or false or "auto", not 1'),
        ('store.write = "yes"', 'store.write: needs true or false or "auto", not "yes"'),
        ("store.keep = 1", "store.keep: needs true or false, not 1"),
        ("store = []", "store: needs a table, not a list"),
        ("context = {}", 'context.target: is missing: The class: a short name, or "package.module:Class".'),
        (
            'context = { target = "torch.nn.GRU" }',
            'context.target: needs a target: a short name or "package.module:Class"; not "torch.nn.GRU"',
        ),
        ('context = { target = "../evil.py:X" }', "context.target: needs a target: "),
        ("context = { target = 'a', x = [1, nan] }", "context.x.2: needs a finite number, not nan"),
        (
            "context = { target = 'a', x = 9223372036854775808 }",
            "context.x: needs a number of at most 64 bits",
        ),
        ("context = { target = 'a', x = 10:00:00 }", "context.x: needs text, a number, true"),
        ("context = { target = 'a', x = \"a\\u0000\" }", "context.x: contains a zero character"),
        ("contxt = { target = 'a' }", 'contxt: unknown key (did you mean "context"?)'),
    ],
)
def test_values_of_a_stage(line: str, problem: str) -> None:
    (found,) = problems_of(MINIMAL + line)
    assert found.startswith(f"x.toml:9: stage.conv1.{problem}")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("stages = []", 'stages: needs "all" or a list of stage names, not an empty list'),
        ('stages = "conv1"', 'stages: needs "all" or a list of stage names, not "conv1"'),
        ("stages = [1]", 'stages: needs "all" or a list of stage names, not a list'),
        ('stages = ["conv1", "conv1"]', "stages: names a stage twice"),
        (
            'stages = ["conf1", "x"]',
            'stages: no such stage: "conf1" (did you mean "conv1"?), "x"; there are: "conv1"',
        ),
        ('stages = "all"\npool = "max"', 'pool: needs "mean" or "mean+std", not "max"'),
        ('stages = "all"\nhidden = 0', "hidden: needs to be at least 1, not 0"),
        ('stages = "all"\nlabel_offset = 0.5', "label_offset: needs a whole number, not 0.5"),
        ('stages = "all"\ndata = { root = "x" }', "data.target: is missing: The class"),
    ],
)
def test_values_of_a_probe(line: str, problem: str) -> None:
    (found,) = problems_of(MINIMAL + f'[[probe]]\nname = "p"\nlabels = "l"\n{line}')
    assert found.split(": ", 1)[1].startswith(f"probe.p.{problem}")


@pytest.mark.parametrize("value", ["-0.1", "0.5", "true", '"5 %"'])
def test_the_validation_fraction(value: str) -> None:
    (found,) = problems_of(MINIMAL.replace("[data]\n", f"[data]\nvalidation = {value}\n"))
    assert found.startswith("x.toml:5: data.validation: needs ")


def test_missing_tables() -> None:
    assert problems_of("") == [
        "x.toml:1: format: is missing: Version of this file format: 1.",
        "x.toml:1: pipeline: is missing: Name, seed, limits and device of the whole pipeline.",
        "x.toml:1: data: is missing: The data set.",
        "x.toml:1: stage: is missing: The stages, from the input up; at least one.",
    ]


def test_tables_of_the_wrong_shape() -> None:
    head = 'format = 1\npipeline.name = "x"\ndata.target = "d"\n'
    assert problems_of(head + "stage = []") == ["x.toml:4: stage: is empty: a pipeline has at least one stage"]
    assert problems_of(head + "stage = 3") == ["x.toml:4: stage: needs a list of tables, not 3"]
    assert problems_of(head + "stage = [3]\nprobe = {}") == [
        "x.toml:4: stage.1: needs a table, not 3",
        "x.toml:5: probe: needs a list of tables, not a table",
    ]
    assert problems_of(head + "[stage]\nname = 'a'") == ["x.toml:4: stage: needs a list of tables, not a table"]
    with pytest.raises(ConfigError, match=r"x.toml:6: not TOML: Cannot declare .*have two brackets: \[\[stage\]\]"):
        load_text(head + "[[stage]]\nname = 'a'\n[stage]\nname = 'b'", "x.toml")


@pytest.mark.parametrize("key", ["defaults.train.lr", "stage.conv1.lr", "stage.conv1.train.learning_rate"])
def test_a_learning_rate_belongs_to_the_optimizer(key: str) -> None:
    assert f'{key}: unknown key (did you mean "train.optimizer.lr"?)' in problems_of(MINIMAL, {key: 0.1})[0]


@pytest.mark.parametrize("version", ["true", "1.0", '"1"', "0"])
def test_other_formats(version: str) -> None:
    (found,) = problems_of(MINIMAL.replace("format = 1", f"format = {version}"))
    assert found.startswith("x.toml:1: format: needs 1, not ")


def test_names_given_twice() -> None:
    probe = '[[probe]]\nname = "p"\nlabels = "l"\nstages = "all"\n'
    assert problems_of(MINIMAL + probe + probe) == [
        'x.toml:14: probe.p.name: "p" names probe 1 already: choose another'
    ]


def test_a_hundred_problems_are_enough() -> None:
    with pytest.raises(ConfigError) as raised:
        load_text(MINIMAL + "".join(f"z{number} = 1\n" for number in range(150)), "x.toml")
    lines = str(raised.value).split("\n")
    assert len(lines) == 102
    assert lines[-2:] == ["… and 50 more", "150 problems; nothing was run."]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("format = 1\n= 2\n", "x.toml:2: not TOML: Invalid statement at column 1"),
        (
            "format = one\n",
            "x.toml:1: not TOML: Invalid value at column 10 (text needs quotes, numbers, true and false do not)",
        ),
        ("format = 1\nformat = 2\n", "x.toml:2: not TOML: Cannot overwrite a value at column 11"),
        ("[a]\n[a]\n", "x.toml:2: not TOML: Cannot declare ('a',) twice at column 3"),
        ("a = 1\nb = [1,\n", "x.toml:3: not TOML: "),
        ("a = 1\rb = 2", "x.toml:1: not TOML: "),
        ("a = 1\nb = '\0'\n", "x.toml:2: contains a zero byte: save it as UTF-8 text"),
        ("a = " + "9" * 5000, "x.toml: a number has thousands of digits"),
        ("a = " + "[" * 100_000, "x.toml: lists or tables are nested too deep"),
        ("a = " + "{a=" * 100_000, "x.toml: lists or tables are nested too deep"),
        ("b = 1\n" + "a." * 100_000 + "a = 1", "x.toml:2: a key of more than 64 parts"),
        ("'a' . \"b\" ." * 100 + "a = 1", "x.toml:1: a key of more than 64 parts"),
    ],
)
def test_what_is_not_toml(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_text(text, "x.toml")
    assert str(raised.value).startswith(message)
    assert str(raised.value).endswith("; nothing was run.")
    assert "\n" not in str(raised.value)


def test_deep_nesting_is_refused_where_it_is() -> None:
    nested = "[" * 40 + "]" * 40
    assert problems_of(MINIMAL + f'context = {{ target = "a", x = {nested} }}') == [
        "x.toml:9: stage.conv1.context.x: is nested more than 32 deep"
    ]
    table = "[data." + ".".join("a" * 50) + "]\nb = 1\n"
    (found,) = problems_of(MINIMAL + table)
    assert found.endswith("is nested more than 32 deep")


@pytest.mark.parametrize(
    "piece", ["a", "a.", "'", '"', "a ", "[", "[[a]]\n", "'a'.", "a=1\n", "#", " ", "\n", '""."a"']
)
def test_no_text_of_the_largest_size_takes_long(piece: str) -> None:
    started = time.monotonic()
    with pytest.raises(ConfigError):
        load_text(piece * (300_000 // len(piece)), "x.toml")
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("epochs=2", "defaults.train.epochs"),
        ("train.epochs=2", "defaults.train.epochs"),
        ("window=64", "defaults.objective.window"),
        ("write=true", "defaults.store.write"),
    ],
)
def test_a_key_that_stages_have_is_found_among_the_defaults(tmp_path: Path, typed: str, meant: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(MINIMAL)
    with pytest.raises(ConfigError, match=rf"unknown key \(did you mean \"{meant}\"\?\)"):
        load_pipeline(path, [typed])
