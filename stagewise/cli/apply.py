"""The verbs that use what was trained: embed, predict, export."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stagewise.cli import completion
from stagewise.cli.options import FORCE, JSON, PLACE, echo, run_argument
from stagewise.errors import ConfigError, DataError
from stagewise.runs.verdict import ADVICE_ON, GUESSING, LIKE_GUESSING, WORSE
from stagewise.text import counted

if TYPE_CHECKING:
    from stagewise.frozen.encoder import FrozenEncoder
    from stagewise.frozen.open import Run
    from stagewise.pipeline import Pool

STAGE = click.option(
    "--stage",
    metavar="NAME",
    help="Whose representation; the topmost stage's when left out.",
    shell_complete=completion.stages,
)
READ = {
    ".npz": 'numpy.load({})["z"]',
    ".zarr": 'zarr.open_group({})["z"][:]',
    ".parquet": "pyarrow.parquet.read_table({})",
}


INPUTS = click.argument(
    "inputs",
    metavar="[RUN] INPUT...",
    nargs=-1,
    required=True,
    type=PLACE,
    shell_complete=completion.inputs,
)
SKIP = click.option("--skip", is_flag=True, help="Read every file first, and leave out those that cannot be used.")


@click.command()
@INPUTS
@click.option(
    "--out",
    metavar="FILE",
    required=True,
    type=PLACE,
    help="Where to write: FILE.npz, FILE.zarr or FILE.parquet.",
)
@STAGE
@click.option(
    "--pool",
    type=click.Choice(["mean", "mean+std"]),
    help="One row an item: the mean of its rows, or also their deviation.",
)
@SKIP
@FORCE
def embed(inputs: tuple[Path, ...], out: Path, stage: str | None, pool: Pool | None, skip: bool, force: bool) -> None:
    """Write the representation of any audio or image files.

    INPUT is a file of any length, or a folder of files. They pass the frozen stages of RUN, which may be an export; of
    the last run made here when left out. .npz and .zarr get arrays: z (rows, channels), offsets and keys; the rows of
    file i are z[offsets[i]:offsets[i + 1]]. For images, grids[i] says how many rows and columns of patches they form.
    .parquet gets a line for every row; it needs the extra `parquet`.

    \b
    stagewise embed talk.flac --out talk.npz
    stagewise embed runs/quickstart talks --stage conv3 --pool mean --out z.npz
    """
    from stagewise.cli.progress import terminal_report
    from stagewise.frozen.encoder import embedding
    from stagewise.frozen.writers import check_out, write
    from stagewise.runs.folder import LOCK_FILE
    from stagewise.threads import considerate

    check_out(out, force)
    named, paths = _run_and_files(inputs, f"embed {{}} FILES --out {shlex.quote(str(out))}")
    with terminal_report() as report:
        if named is not None and not (named / LOCK_FILE).exists():
            encoder = _exported(named, stage)
            report("note", text=f"stage {encoder.name} of {named}")
        else:
            run = _run(named)
            _with_its_threads(run)
            encoder = run.encoder(_say_which(run, stage, report, "embed", named)).to(run.device())
        try:
            with considerate():
                made = embedding(encoder, paths, pool, report, skip)
                write(made, out, report, force)
        except DataError as error:
            if skip:
                raise
            raise DataError(f"{error} Type --skip to leave out what cannot be used.") from None
    rows = f"{counted(int(made.rows.sum()), 'row')} of {counted(made.channels, 'channel')}"
    left = f", {counted(made.left_out, 'file')} left out" if made.left_out else ""
    size = f"; trained on {made.trained_at}" if made.trained_at else ""
    echo(f"{out}: {rows}, {counted(len(made.keys), 'item')}{left}{size}")
    parts = "; `offsets` say where the rows of each file begin, `keys` which it is" * (out.suffix != ".parquet")
    echo(f"Read it with {READ[out.suffix].format(_quoted(out))}{parts}.", err=True)


@click.command()
@INPUTS
@click.option(
    "--probe", metavar="NAME", help="Which probe; may be left out where there is one.", shell_complete=completion.probes
)
@click.option(
    "--stage", metavar="NAME", help="On which stage; its topmost when left out.", shell_complete=completion.stages
)
@click.option("--out", metavar="FILE", type=PLACE, help="Write all lines to FILE.csv or FILE.json.")
@SKIP
@FORCE
@JSON
def predict(
    inputs: tuple[Path, ...],
    probe: str | None,
    stage: str | None,
    out: Path | None,
    skip: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Say which class audio or image files have, by a fitted probe.

    INPUT is a file of any length, or a folder of files; RUN has the probe, the last run made here when left out. A
    probe of rows, such as phones, says a class of every row: the table shows the most frequent one of each file, --out
    and --json give all of them, with the seconds at which they lie.

    \b
    stagewise predict talk.flac
    stagewise predict runs/quickstart talks --probe speaker --out speakers.csv
    """
    from collections import Counter

    from stagewise.cli.progress import terminal_report
    from stagewise.cli.tables import print_predictions
    from stagewise.frozen.open import check_table, write_lines
    from stagewise.runs.folder import is_export
    from stagewise.threads import considerate

    if out is not None and as_json:
        raise ConfigError(
            "--json prints what --out would write: leave one of them out, or name a file --out FILE.json."
        )
    if out is not None:
        check_table(out, force)
    named, paths = _run_and_files(inputs, "predict {} FILES")
    if named is not None and is_export(named):
        raise ConfigError(f"{named} is an export, and probes stay with their run: name the run.")
    with terminal_report() as report, considerate():
        fitted = _run(named).probe(probe, stage)
        _with_its_threads(fitted.run)
        report("note", text=f"probe {fitted.name} on stage {fitted.stage} of {fitted.run.path}")
        _warn_of_probes(fitted.run, fitted.stage, (WORSE, GUESSING, LIKE_GUESSING), report, fitted.name)
        try:
            lines = fitted.predict(paths, report, skip)
            if out is not None:
                count = write_lines(out, lines)
            elif as_json:
                rows = list(lines)
            else:
                said: dict[str, Counter[str]] = {}
                shares: dict[str, float] = {}
                for line in lines:
                    said.setdefault(line["key"], Counter())[line["predicted"]] += 1
                    shares[line["key"]] = line["probability"]
        except DataError as error:
            if skip:
                raise
            raise DataError(f"{error} Type --skip to leave out what cannot be used.") from None
    if out is not None:
        echo(f"{out}: {counted(count, 'line')}")
    elif as_json:
        facts = {"format": 1, "run": str(fitted.run.path), "probe": fitted.name, "stage": fitted.stage}
        click.echo(json.dumps({**facts, "classes": fitted.result["class_names"], "predictions": rows}, indent=1))
    else:
        print_predictions(said, None if not fitted.of_items else shares)


@click.command()
@run_argument
@STAGE
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=PLACE,
    help="The folder to write.",
)
@FORCE
@click.option("--onnx", is_flag=True, help="Also write model.onnx, for programs without torch; needs the extra `onnx`.")
def export(run: Path | None, stage: str | None, out: Path, onnx: bool, force: bool) -> None:
    """Write a run's frozen stages to a folder that needs no run.

    It holds weights, settings, a program for torch.export and a model card. `stagewise.load("DIR")` gives the same
    torch module as `run.encoder(STAGE)`; its `embed("talk.flac")` gives what `stagewise embed` writes.

    \b
    stagewise export --out encoder
    stagewise export runs/quickstart --stage conv3 --out conv3 --onnx
    """
    from stagewise.cli.progress import terminal_report
    from stagewise.frozen.export import write_export

    with terminal_report() as report:
        opened = _run(run)
        name = _say_which(opened, stage, report, "export", run)
        write_export(opened, name, out, onnx, lambda text: report("note", text=text), force)
    echo(out)
    echo(f"Load it with stagewise.load({_quoted(out)})", err=True)


def _run_and_files(inputs: tuple[Path, ...], usage: str) -> tuple[Path | None, tuple[Path, ...]]:
    """Tell a run, or an export, that is named first from the files; `usage` is what is typed, with its place."""
    from stagewise.pipeline.wording import did_you_mean
    from stagewise.runs.folder import LAST, LOCK_FILE, is_export, runs_here

    if missing := [path for path in inputs if not os.path.lexists(path)]:
        beside = [str(path) for path in missing[0].parent.glob("*")] if missing[0].parent.is_dir() else []
        raise ConfigError(f"{missing[0]} is not there{did_you_mean(str(missing[0]), [*runs_here(), *beside])}.")
    if pipelines := [path for path in inputs[:1] if path.suffix == ".toml" and path.is_file()]:
        made_of = LAST.with_name(pipelines[0].stem)
        raise ConfigError(f"{pipelines[0]} is a pipeline file: name the run that was made of it, such as {made_of}.")
    encodes = [(path / LOCK_FILE).is_file() or is_export(path) for path in inputs]
    if any(encodes[1:]):
        late = inputs[encodes.index(True, 1)]
        typed = f"stagewise {usage.replace('{}', shlex.quote(str(late)), 1)}"
        raise ConfigError(f"{late} is a run, or an export: one alone is named, and first, as in `{typed}`.")
    named = inputs[0] if encodes[0] else None
    return named, inputs if named is None else inputs[1:]


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)


def _run(path: Path | None) -> Run:
    from stagewise.frozen.open import open_run
    from stagewise.runs.folder import find_run

    return open_run(find_run(path).path)


def _with_its_threads(run: Run) -> None:
    import torch

    if threads := run.locked["pipeline"]["pipeline"].get("threads"):
        torch.set_num_threads(threads)


def _exported(path: Path, stage: str | None) -> FrozenEncoder:
    import torch

    from stagewise.frozen.export import load_export

    if stage is not None:
        raise ConfigError(f"{path} is an export, of one stage: leave --stage out.")
    return load_export(path).to("cuda" if torch.cuda.is_available() else "cpu")


def _say_which(run: Run, stage: str | None, report: Callable[..., None], verb: str, named: Path | None) -> str:
    """Name the stage and the run, and say if its weights are random; those of a run that was not named are refused."""
    names = [each["name"] for each in run.locked["stages"]]
    name = names[int(stage) - 1] if stage and stage.isdecimal() and 0 < int(stage) <= len(names) else stage or run.top()
    random = run.untrained(name) if name in run.stages else []
    trained, weights = ("was", "its weights are") if len(random) == 1 else ("were", "their weights are")
    if random and named is None:
        raise ConfigError(
            f"the last run made here, {run.path}, has random weights ({', '.join(random)} {trained} trained for no "
            f"epoch): name the run you mean, `stagewise {verb} {shlex.quote(str(run.path))} …` for this one."
        )
    if name in names:
        report("note", text=f"stage {name} of {run.path}")
    if random:
        report("note", text=f"warning: {', '.join(random)} {trained} trained for no epoch: {weights} random.")
    else:
        _warn_of_probes(run, name, (WORSE, GUESSING), report)
    return name


def _warn_of_probes(
    run: Run, stage: str, warned: tuple[str, ...], report: Callable[..., None], only: str | None = None
) -> None:
    """Warn of the probes on a stage, or of one of them, whose verdict is among these."""
    for probe in run.facts["probes"]:
        if probe["stage"] == stage and only in (None, probe["name"]) and probe["words"] in warned:
            words = f"{probe['name']} on {stage} is {probe['words']}: {ADVICE_ON[probe['words']]}."
            report("note", text=f"warning: probe {words}")
