"""The command `stagewise`: its verbs, and how errors end it. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import errno
import io
import os
import shlex
import sys
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

import click

from stagewise.cli.apply import embed, export, predict
from stagewise.cli.completion import completion
from stagewise.cli.data import data, init
from stagewise.cli.make import plan, probe, run, stage
from stagewise.cli.options import echo, in_words
from stagewise.cli.read import clean, compare, doctor, inspect, report, schema, verify
from stagewise.datasets.quiet_decoders import own_stream
from stagewise.errors import Interrupted, StagewiseError
from stagewise.libraries import VERSION

MEANT = {
    "train": "run", "fit": "run", "resume": "run", "classify": "predict", "encode": "embed", "features": "embed",
    "validate": "plan", "check": "data check", "fetch": "data fetch", "download": "data fetch", "align": "data align",
    "show": "inspect", "status": "inspect", "ls": "inspect", "eval": "probe", "new": "init", "convert": "export",
    "list": "data list",
}  # fmt: skip
RUN_IS_ARGUMENT = "RUN is given without an option: `stagewise {} RUN`."
KEYS = {
    "--epochs": "defaults.train.epochs=30", "--batch-size": "defaults.train.batch_size=8",
    "--lr": "defaults.train.optimizer.lr=1e-3", "--patience": "defaults.train.patience=5",
    "--seed": "pipeline.seed=1", "--device": "pipeline.device=cpu", "--threads": "pipeline.threads=2",
    "--data": "data.root=FOLDER", "--root": "data.root=FOLDER",
}  # fmt: skip
TOO_MANY_FILES = "too many open files: type `ulimit -n 4096`, then the same command again."


class Commands(click.Group):
    """Turns errors into messages and exit codes; a traceback is shown only when STAGEWISE_DEBUG is set."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line and exit: 0 done, 1 failed, 2 usage, 3 integrity, 129, 130 or 143 interrupted."""
        kwargs["standalone_mode"] = False
        _prepare_streams()
        try:
            code = super().main(*args, **kwargs)
            sys.stdout.flush()
        except click.exceptions.Exit as end:
            code = end.exit_code
        except click.Abort:
            code = 130
        except click.ClickException as error:
            words = io.StringIO()
            _hinting(error).show(words)
            code = _say(words.getvalue().rstrip(), error.exit_code, who="")
        except StagewiseError as error:
            typed, again = sys.argv[1:], _goes_on(sys.argv[1:])
            said = str(error)
            if isinstance(error, Interrupted) and again != typed:  # typed again, it would delete what is kept
                said = said.replace("Type the same command again", "Type this")
            code = _say(said, error.exit_code)
            if isinstance(error, Interrupted):
                _say(shlex.join(["stagewise", *again]), 0, who="  ")
        except KeyboardInterrupt:
            code = _say("stopped at once; everything committed before is intact. Type the same command again.", 130)
        except BrokenPipeError:
            code = 0  # whoever read our output has gone: nothing more to say
        except SystemExit as end:  # how rich ends then
            if not isinstance(end.__context__, BrokenPipeError):
                raise
            code = 0
        except OSError as error:
            if os.environ.get("STAGEWISE_DEBUG"):
                raise
            code = _say(_not_loaded(error) or _refused(error), 1)
        except Exception as error:  # the last resort: a user gets words, not a traceback
            if os.environ.get("STAGEWISE_DEBUG"):
                raise
            many = "Too many open files" in str(error)
            code = _say(TOO_MANY_FILES if many else _not_loaded(error) or in_words(error), 1)
        _finish_streams()
        sys.exit(code if isinstance(code, int) else 0)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is named first; for a word of other programs and for a slip, say which one it is."""
        word = args[0]
        meant = MEANT.get(word) or next(iter(get_close_matches(word, self.commands, 1)), "")
        if meant and word not in self.commands and not word.startswith("-") and not ctx.resilient_parsing:
            ctx.fail(f"No such command {word!r}: type `stagewise {meant}`.")
        return super().resolve_command(ctx, args)


def _prepare_streams() -> None:
    """Make sure that there are standard streams, and that they can say everything."""
    try:
        while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
            # A stream that was closed: the next file that is opened would get its number, and what is said.
            os.set_inheritable(number, True)
        os.close(number)
    except OSError:
        return  # no file can be opened: the first one that is needed says so
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
        if number and isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may hold anything
    own_stream()


def _finish_streams() -> None:
    """Write out what is left to say; what cannot be written is not tried again at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _hinting(error: click.ClickException) -> click.ClickException:
    """Add to the name of an option that is not there what is typed instead of it."""
    if not isinstance(error, click.NoSuchOption) or error.ctx is None:
        return error
    name, command = error.option_name.replace("_", "-"), error.ctx.command
    taken = {parameter.name for parameter in command.params}
    if name == "--run" and taken & {"run", "runs", "inputs"}:
        hint = RUN_IS_ARGUMENT.format(error.ctx.info_name)
    elif name in KEYS and "sets" in taken:
        hint = f"Keys of the file are set by name: `--set {KEYS[name]}`."
    elif name == "--resume" and "sets" in taken:
        hint = "It goes on where it stopped by itself: leave the option out."
    elif name in ("--out", "--output") and "run_folder" in taken:
        hint = "Where a run is written is said by `--run DIR`."
    else:
        return error
    return click.NoSuchOption(error.option_name, f"{error.message} {hint}", ctx=error.ctx)


def _say(message: str, code: int, who: str = "stagewise: ") -> int:
    with suppress(OSError):  # with nobody to tell, the exit code still says it
        echo(f"{who}{message}", err=True)
    return code


def _goes_on(typed: list[str]) -> list[str]:
    """Return the command that goes on where one was interrupted, rather than beginning again."""
    again = [word for word in typed if word != "--fresh"]
    return [*again, "--resume"] if again[:1] == ["stage"] and "--resume" not in again else again


def _refused(error: OSError) -> str:
    """Say what the system refused, where nothing nearer to it knew more."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return TOO_MANY_FILES
    if error.filename is None:
        return f"the output cannot be written, or something cannot be read ({error.strerror or error})."
    return f"{error.filename}: {error.strerror}: check it, then type the same command again."


def _not_loaded(error: Exception) -> str | None:
    """Say which library does not load, where that is what went wrong."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return None
    from stagewise.libraries import broken, failed_import

    module = failed_import(error)
    return broken(module, error) if module else None


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="stagewise")
def main() -> None:
    """Train deep encoders stage by stage, each in the memory of one module.

    \b
    stagewise plan pipelines/quickstart.toml   what would run, and its cost
    stagewise run pipelines/quickstart.toml    train, freeze, encode and probe
    stagewise inspect                          a table of stages and probes
    """


VERBS = (
    run,
    plan,
    stage,
    probe,
    inspect,
    compare,
    report,
    embed,
    predict,
    export,
    verify,
    clean,
    init,
    data,
    doctor,
    schema,
    completion,
)
for command in VERBS:
    main.add_command(command)
