"""What every command says of itself: examples that can be typed, every option, nothing cut off at 80 columns."""

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from stagewise.cli.main import MEANT, main


def commands_of(command, parent=None, name="stagewise"):
    """Contexts as wide as click makes them on a terminal of 80 columns."""
    context = click.Context(command, parent, name, terminal_width=78)
    yield pytest.param(context, id=context.command_path)
    for inner, below in getattr(command, "commands", {}).items():
        yield from commands_of(below, context, inner)


ALL = list(commands_of(main))


@pytest.mark.parametrize("context", ALL)
def test_help_fits_and_documents_every_option(context):
    text = context.get_help()
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in re.sub(r"(RUN|INPUT|ARGS)\]?\.\.\.", "", text)  # no word of a list of commands is cut off
    for parameter in context.command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.opts
            assert not re.search(r"\b(PATH|TEXT)\b", parameter.make_metavar(context)), parameter.opts


@pytest.mark.parametrize(
    ("typed", "meant"), [("train", "run"), ("classify", "predict"), ("ls", "inspect"), ("inspct", "inspect")]
)
def test_a_word_that_is_no_command_names_the_one_that_is(typed, meant):
    done = CliRunner().invoke(main, [typed, "x.toml"])
    assert (done.exit_code, f"No such command '{typed}': type `stagewise {meant}`." in done.stderr) == (2, True)


def test_every_word_that_people_try_leads_to_a_command_and_hides_none():
    known = {*main.commands, *(f"data {name}" for name in main.commands["data"].commands)}
    assert set(MEANT.values()) <= known
    assert not set(MEANT) & set(main.commands)
    nothing = CliRunner().invoke(main, ["xyzzy"])
    assert (nothing.exit_code, "type `stagewise" in nothing.stderr) == (2, False)
    assert "No such option" in CliRunner().invoke(main, ["--version-of"]).stderr
    assert "goes on where it stopped by itself" in CliRunner().invoke(main, ["run", "x.toml", "--resume"]).stderr


def test_an_empty_path_is_not_the_folder_one_is_in():
    for words in (["embed", "", "--out", "x.npz"], ["embed", "x", "--out", ""], ["inspect", ""], ["init", ""]):
        done = CliRunner().invoke(main, words)
        assert (done.exit_code, "is empty: is a variable not set?" in done.stderr) == (2, True)


@pytest.mark.parametrize("context", ALL)
def test_every_example_can_be_typed(context):
    examples = re.findall(rf"^  ({context.command_path}\b.*)", context.get_help(), re.MULTILINE)
    assert examples
    for example in examples:
        _, *words = shlex.split(re.split(r"  +| >", example)[0])
        command = main
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        command.make_context("example", words)  # refuses what does not fit
