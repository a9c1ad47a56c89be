"""Commands carried out in this process, and disturbed at a moment of one's choice."""

import os

from click.testing import CliRunner

from stagewise.cli import progress
from stagewise.cli.main import main


def stagewise(*arguments):
    """Exit code and words of a command."""
    done = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert "unforeseen" not in done.output, done.output
    assert "Traceback" not in done.output, done.output
    return done.exit_code, done.output


def told(monkeypatch, tell):
    """Call `tell(kind, **facts)` whenever a run reports; the user sees what is told as always."""

    class Telling(progress._Lines):
        def __call__(self, kind, **facts):
            tell(kind, **facts)
            super().__call__(kind, **facts)

    monkeypatch.setattr(progress, "_Lines", Telling)


def signals_at(monkeypatch, phase, *numbers):
    """Send signals to this process when a phase reports for the first time."""
    left = list(numbers)

    def tell(kind, **_):
        while kind == phase and left:
            os.kill(os.getpid(), left.pop(0))

    told(monkeypatch, tell)
