"""What fails in other hands is said in words, with the exit code of its kind; ours alone is to be reported."""

from __future__ import annotations

import re
from functools import partial

import pytest
import tiny
from click.testing import CliRunner
from small_files import wav

from stagewise.cli import options
from stagewise.cli.main import main
from stagewise.registry import MODULES, Given

HEAD = tiny.TOML.split('[[stage]]\nname = "two"')[0]
SPEECH = 'target = "tiny:TinySpeech"'


def run(text, *sets, code):
    with open("x.toml", "w") as file:  # noqa: PTH123
        file.write(text)
    result = CliRunner().invoke(main, ["run", "x.toml", *(word for each in sets for word in ("--set", each))])
    assert result.exit_code == code, result.output
    assert "report it" not in result.output, result.output
    return result.output


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("optimizer.lr=.001", 'lr needs a number, not ".001"; a number .* and a digit before its point: lr = 0.001'),
        ('optimizer.lr="1e-3"', 'lr needs a number, not "1e-3"; a number has no quotes, .*: lr = 1e-3'),
        ("optimizer.lr=true", "lr needs a number, not true"),
        ("optimizer.betas=[true, 0.9]", "betas needs numbers, not a list"),
        ("optimizer.weight_decay=[1]", "weight_decay needs a number, not a list"),
        ('optimizer.amsgrad="x"', 'amsgrad needs true or false, not "x"'),
        ("noise=.1", "train.noise: needs a number, not \".1\"; a number has no quotes, .*: noise = 0.1"),
        ("noise=true", "train.noise: needs a number, not true"),
        ("epochs=true", "train.epochs: needs a whole number, not true"),
        ('epochs="3"', 'train.epochs: needs a whole number, not "3"; a number has no quotes, .*: epochs = 3'),
        ("epochs=1.", r'train.epochs: needs a whole number, not "1."\n'),
    ],
)  # fmt: skip
def test_numbers(key, words):
    assert re.search(words, run(HEAD, f"defaults.train.{key}", code=2))


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("mean=true", "mean needs a number, not true"),
        ('mean="x"', 'mean needs a number, not "x"'),
        ("test_fraction=.2", 'test_fraction needs a number, not ".2"; .*: test_fraction = 0.2'),
        ("mono=1", "mono needs true or false, not 1"),
        ("labels={ kind = 5 }", 'data.labels.kind is 5: set it to "folder"'),
    ],
)
def test_arguments_of_data_sets(tmp_path, key, words):
    wav(tmp_path / "in" / "a.wav", 0.2)
    text = HEAD.replace(SPEECH, 'target = "audio-folder"\nroot = "in"')
    assert re.search(words, run(text, f"data.{key}", code=2))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("memory", r"out of memory\. Everything committed before is intact\. Close other .* pipeline.memory_limit"),
        ("torch", r"out of memory \(.*you tried to allocate 4611686018427387904 bytes"),
        ("key", r"own_classes.py:\d+: forward fails: KeyError: 'mine'\nEverything .* intact\. This is code"),
    ],
)  # fmt: skip
def test_modules_that_fail_in_training(how, words):
    text = HEAD.replace('target = "conv1d"', f'target = "own_classes:Fails", how = "{how}"')
    assert re.search(words, run(text, code=1))


def test_objectives_that_give_no_score():
    text = HEAD.replace("[defaults.objective]", '[defaults.objective]\ntarget = "own_classes:NoScore"')
    words = run(text.replace("steps = 3\nnegatives = 4\n", ""), code=2)
    assert "NoScore.forward gives Tensor: it must give a stagewise.objectives.Score of the loss." in words


@pytest.mark.parametrize(
    ("breaks", "code", "words"),
    [
        ("keys", 2, "x.toml:4: data: Speech: `keys` must be texts without line breaks"),
        ("unique", 2, "`keys` must be unique"),
        ("lengths", 2, "`lengths` must be an array of int64, one for each of its 12 keys"),
        ("labels", 2, r"`labels\['speaker'\]` must be an ItemLabels or a FrameTable"),
        ("count", 2, r"`labels\['speaker'\]` is of 2 items, and there are 12 keys"),
        ("list", 2, r"`split\('train'\)` must give an array of int64, numbers of items from 0 to 11"),
        ("range", 2, r"`split\('train'\)` must give an array of int64, numbers"),
        ("float", 2, r"`split\('train'\)` must give an array of int64, numbers"),
        ("fingerprint", 2, r"`fingerprint\(\)` must give a text"),
        ("shape", 1, r"Speech.read gives an array of shape \(\d+,\) for rows .*: it must be float32 of shape \(1, "),
        ("none", 1, r"Speech.read gives an array of shape \(\) for rows"),
    ],
)
def test_data_sets_that_break_a_promise(breaks, code, words):
    text = HEAD.replace(SPEECH, f'target = "own_classes:Speech"\nbreaks = "{breaks}"')
    assert re.search(words, run(text, code=code))


def test_our_own_mistakes_are_to_be_reported(monkeypatch):
    monkeypatch.setattr("stagewise.starting.built_in.size_words", partial(int, 1, 2))
    result = CliRunner().invoke(main, ["data", "list"])
    assert result.exit_code == 1
    assert re.search(r"unforeseen TypeError at .*data.py:\d+: .*\n.* please report it", result.output)


def test_code_of_an_installed_package_that_gives_classes_is_not_ours(tmp_path, monkeypatch):
    for name in ("birds", "library"):
        (tmp_path / f"{name}.py").write_text("")
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"purelib": str(tmp_path)})
    monkeypatch.setattr(MODULES, "installed", lambda: {"bird": [Given("birds.nets:Bird", "birds 1.0")]})
    assert options._is_foreign(str(tmp_path / "birds.py"))
    assert not options._is_foreign(str(tmp_path / "library.py"))
    assert not options._is_foreign(options.__file__)
    assert options._is_foreign(__file__)
