"""A target becomes a class of the expected kind, its arguments are bound before it is called."""

from __future__ import annotations

import subprocess
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
import torch

from stagewise.errors import ConfigError, DataError
from stagewise.pipeline import Spec, build, resolve

WHERE = "x.toml:12: stage.conv1.encoder"
SHORT = {"conv1d": f"{__name__}:Conv1d", "hidden": f"{__name__}:Hidden", "picky": f"{__name__}:Picky"}


class Module:
    """The expected kind."""


class Conv1d(Module):
    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, padding_mode: str = "zeros") -> None:
        self.arguments = (in_channels, out_channels, stride, padding_mode)


class Hidden(Module):
    @typing.overload
    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None: ...
    @typing.overload
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.arguments = kwargs


class Any_(Module):  # noqa: N801
    def __init__(self, **kwargs: object) -> None:
        self.arguments = kwargs


class Picky(Module):
    def __init__(self, error: str, words: str = "no such size") -> None:
        raise {
            "value": ValueError,
            "runtime": RuntimeError,
            "config": ConfigError,
            "data": DataError,
            "os": OSError,
        }[error](words)


def spec(target: str, **arguments: object) -> Spec:
    return Spec.model_validate({"target": target, **arguments})


def message(target: str, **arguments: object) -> str:
    with pytest.raises(ConfigError) as raised:
        build(spec(target, **arguments), Module, SHORT, WHERE)
    lines = str(raised.value).split("\n")
    assert all(line.startswith(f"{WHERE}: ") for line in lines)
    return "\n".join(line.removeprefix(f"{WHERE}: ") for line in lines)


def test_short_and_full_names() -> None:
    assert resolve("conv1d", Module, SHORT, WHERE) is Conv1d
    assert resolve(f"{__name__}:Any_", Module, {}, WHERE) is Any_


def test_arguments_and_extra_arguments() -> None:
    made = build(spec("conv1d", in_channels=1, stride=5), Conv1d, SHORT, WHERE, out_channels=2)
    assert made.arguments == (1, 2, 5, "zeros")
    assert build(spec(f"{__name__}:Any_", x=1), Any_, {}, WHERE).arguments == {"x": 1}
    assert build(spec("hidden", input_size=1, hidden_size=2), Hidden, SHORT, WHERE).arguments["hidden_size"] == 2


def test_unknown_short_name() -> None:
    assert message("conv1") == (
        'unknown target "conv1" (did you mean "conv1d"?); there are: conv1d, hidden, picky; '
        'or name a class: "package.module:Class"'
    )


def test_an_optimizer_is_named_with_its_package() -> None:
    words = r'unknown target "AdamW" \(did you mean "torch.optim:AdamW"\?\); name a class: "package.module:Class"'
    with pytest.raises(ConfigError, match=words):
        resolve("AdamW", torch.optim.Optimizer, {}, "lr")


def test_all_arguments_that_do_not_fit_at_once() -> None:
    assert message("conv1d", in_chanels=1, strid=2, out_channels=3).split("\n") == [
        '"conv1d" takes no argument "in_chanels" (did you mean "in_channels"?)',
        '"conv1d" takes no argument "strid" (did you mean "stride"?)',
        '"conv1d" needs "in_channels"',
        "Conv1d takes: in_channels, out_channels, stride=1, padding_mode='zeros'",
    ]


def test_the_signature_of_an_overload() -> None:
    assert message("hidden", input_siz=1, hidden_size=2).split("\n") == [
        '"hidden" takes no argument "input_siz" (did you mean "input_size"?)',
        '"hidden" needs "input_size"',
        "Hidden takes: input_size, hidden_size, bias=True",
    ]


def test_an_argument_that_stagewise_gives() -> None:
    with pytest.raises(ConfigError) as raised:
        build(spec("conv1d", in_channels=1, out_channels=2), Conv1d, SHORT, WHERE, in_channels=3)
    assert str(raised.value).split("\n") == [
        f'{WHERE}: "conv1d": stagewise gives "in_channels" itself; remove it',
        f"{WHERE}: Conv1d takes: out_channels, stride=1, padding_mode='zeros'",
    ]


@pytest.mark.parametrize("error", ["value", "runtime"])
def test_a_constructor_that_refuses(error: str) -> None:
    assert message("picky", error=error) == '"picky" refuses its arguments: no such size'
    assert message("picky", error=error, words="").startswith('"picky" refuses its arguments: ')
    assert message("picky", error=error, words="1e-3").endswith("; words is text: a number has no quotes, words = 1e-3")


def test_errors_of_the_product_and_of_the_machine() -> None:
    assert message("picky", error="config") == "no such size"
    with pytest.raises(DataError, match=r"^no such size$"):
        build(spec("picky", error="data"), Module, SHORT, WHERE)
    with pytest.raises(OSError, match="no such size"):
        build(spec("picky", error="os"), Module, SHORT, WHERE)


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (
            "os:system",
            'target "os:system" is not a class; it needs to be a subclass of test_pipeline_targets.Module',
        ),
        ("builtins:int", 'target "builtins:int" is a class of another kind; it needs to be a subclass of '),
        ("os:nothing", 'target "os:nothing": os has no "nothing"'),
        (f"{__name__}:Conv1", f'{__name__} has no "Conv1" (did you mean "Conv1d"?)'),
        ("stagewise.nowhere:X", "there is no such module; install it, or put its folder on PYTHONPATH"),
        ("no_such_package.x:X", "there is no such module"),
        ("os.path.x:X", "there is no such module"),
        ("a..b:X", 'target "a..b:X" is not of the form "package.module:Class"'),
    ],
)
def test_targets_that_are_refused(target: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        resolve(target, Module, {}, WHERE)
    assert problem in str(raised.value)
    assert str(raised.value).startswith(f"{WHERE}: target ")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("1 / 0", "importing broken fails: ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "importing broken fails: SystemExit: 3"),
        (
            "import no_such_thing",
            "importing broken fails: ModuleNotFoundError: No module named 'no_such_thing'",
        ),
        ("def", "importing broken fails: SyntaxError"),
    ],
)
def test_a_module_that_fails(body: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as raised:
        resolve("broken:X", Module, {}, WHERE)
    assert str(raised.value).startswith(f'{WHERE}: target "broken:X": {problem}')


def test_nothing_is_imported_from_the_current_folder(tmp_path: Path) -> None:
    """Unless it is on PYTHONPATH: then the user asked for it."""
    (tmp_path / "evil.py").write_text("open('ran', 'w').close()\nclass X(dict): pass\n")
    program = "from stagewise.pipeline import resolve; resolve('evil:X', dict, {}, 'here')"
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", program]
    alone = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert 'here: target "evil:X": there is no such module' in alone.stderr
    assert not (tmp_path / "ran").exists()
    subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": f"{root}:{tmp_path}"}, timeout=60, check=True)
    assert (tmp_path / "ran").exists()


def test_modules_of_torch() -> None:
    torch = pytest.importorskip("torch")
    gru = build(spec("torch.nn:GRU", input_size=3, hidden_size=4), torch.nn.Module, {}, WHERE)
    assert gru.hidden_size == 4
    with pytest.raises(ConfigError, match=r'takes no argument "hidden_sise" \(did you mean "hidden_size"\?\)'):
        build(spec("torch.nn:GRU", input_size=3, hidden_sise=4), torch.nn.Module, {}, WHERE)
    with pytest.raises(ConfigError, match=r"refuses its arguments: .*negative"):
        build(spec("torch.nn:Conv1d", in_channels=1, out_channels=-1, kernel_size=2), torch.nn.Module, {}, WHERE)
    adam = build(
        spec("torch.optim:Adam", lr=0.5),
        torch.optim.Optimizer,
        {},
        "x.toml:3: optimizer",
        params=gru.parameters(),
    )
    assert adam.defaults["lr"] == 0.5
