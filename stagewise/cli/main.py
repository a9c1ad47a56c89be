"""The command `stagewise`: its verbs, and how errors end it. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import click

from stagewise import __version__
from stagewise.cli.compare import compare
from stagewise.cli.make import plan, probe, run, stage
from stagewise.cli.read import clean, doctor, inspect, schema, verify
from stagewise.cli.report import report
from stagewise.errors import StagewiseError


class Commands(click.Group):
    """Turns errors into messages and exit codes; a traceback is shown only when STAGEWISE_DEBUG is set."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line and exit: 0 done, 1 failed, 2 usage, 3 integrity, 130 or 143 interrupted."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
            sys.stdout.flush()
        except click.exceptions.Exit as end:
            code = end.exit_code
        except click.Abort:
            code = 130
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except StagewiseError as error:
            code = _say(str(error), error.exit_code)
        except KeyboardInterrupt:
            code = _say("stopped at once; everything committed before is intact. Type the same command again.", 130)
        except BrokenPipeError:
            # Whoever read our output has gone: nothing more to say, also not at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 0
        except Exception as error:  # the last resort: a user gets words, not a traceback
            if os.environ.get("STAGEWISE_DEBUG"):
                raise
            code = _say(_unforeseen(error), 1)
        sys.exit(code if isinstance(code, int) else 0)


def _say(message: str, code: int) -> int:
    click.echo(f"stagewise: {message}", err=True)
    return code


def _unforeseen(error: Exception) -> str:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"unforeseen {type(error).__name__} at {last.filename}:{last.lineno}: {error}\n"
        "Everything committed before is intact. Type the command again with STAGEWISE_DEBUG=1 in front of it to "
        "see where this comes from, and please report it."
    )


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="stagewise")
def main() -> None:
    """Train deep encoders stage by stage, each in the memory of one module.

    \b
    stagewise plan pipelines/quickstart.toml      what would run, its memory and its disk
    stagewise run pipelines/quickstart.toml       train, freeze, encode, probe; type it again to go on
    stagewise inspect                             a table of stages and probes
    """


for command in (run, plan, stage, probe, inspect, compare, report, verify, clean, doctor, schema):
    main.add_command(command)
