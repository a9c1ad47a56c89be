"""The verbs that use what was trained: embed, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stagewise.cli import completion
from stagewise.cli.options import RUN_ARGUMENT
from stagewise.show import counted

if TYPE_CHECKING:
    from stagewise.embedding.embed import Pool
    from stagewise.runs.open import Run

STAGE = click.option(
    "--stage",
    metavar="NAME",
    help="Whose representation; the topmost stage's when left out.",
    shell_complete=completion.stages,
)


@click.command()
@click.argument(
    "inputs",
    metavar="[RUN] INPUT...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
    shell_complete=completion.inputs,
)
@click.option(
    "--out",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="Where to write: FILE.npz, FILE.zarr or FILE.parquet.",
)
@STAGE
@click.option("--pool", type=click.Choice(["mean"]), help="One row an item, the mean of its rows.")
def embed(inputs: tuple[Path, ...], out: Path, stage: str | None, pool: Pool | None) -> None:
    """Write the representation of any audio or image files.

    INPUT is a file of any length, or a folder of files. They pass the frozen stages of RUN; of the last run made here
    when left out. .npz and .zarr get arrays: z (rows, channels), offsets and keys; the rows of file i are
    z[offsets[i]:offsets[i + 1]]. .parquet gets a line for every row; it needs the extra `parquet`.

    \b
    stagewise embed talk.flac --out talk.npz
    stagewise embed runs/quickstart talks --stage conv3 --pool mean --out z.npz
    """
    import torch

    from stagewise.cli.progress import terminal_report
    from stagewise.embedding.write import check_out, write
    from stagewise.runs.folder import LOCK_FILE

    check_out(out)
    named = inputs[0] if (inputs[0] / LOCK_FILE).exists() else None
    run, paths = _run(named), inputs if named is None else inputs[1:]
    if threads := run.locked["pipeline"]["pipeline"].get("threads"):
        torch.set_num_threads(threads)
    with terminal_report() as report:
        _say_which(run, stage, report)
        made = run.embedding(paths, stage, pool, report)
        write(made, out, report)
    rows = f"{counted(int(made.rows.sum()), 'row')} of {counted(made.channels, 'channel')}"
    click.echo(f"{out}: {rows}, {counted(len(made.keys), 'item')}")


@click.command()
@RUN_ARGUMENT
@STAGE
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(path_type=Path),
    help="The folder to write, which must not be there.",
)
@click.option("--onnx", is_flag=True, help="Also write model.onnx, for programs without torch; needs the extra `onnx`.")
def export(run: Path | None, stage: str | None, out: Path, onnx: bool) -> None:
    """Write a run's frozen stages to a folder that needs no run.

    It holds weights, settings, a program for torch.export and a model card. `stagewise.load("DIR")` gives the same
    torch module as `run.encoder(STAGE)`; its `embed("talk.flac")` gives what `stagewise embed` writes.

    \b
    stagewise export --out encoder
    stagewise export runs/quickstart --stage conv3 --out conv3 --onnx
    """
    from stagewise.cli.progress import terminal_report
    from stagewise.exporting.write import write_export

    with terminal_report() as report:
        opened = _run(run)
        _say_which(opened, stage, report)
        write_export(opened, stage, out, onnx, lambda text: report("note", text=text))
    click.echo(out)


def _run(path: Path | None) -> Run:
    from stagewise.runs.folder import find_run
    from stagewise.runs.open import open_run

    return open_run(find_run(path).path)


def _say_which(run: Run, stage: str | None, report: Callable[..., None]) -> None:
    """Name the stage and the run, which may be the last one made here, and say if its weights are random."""
    name = stage or run.top()
    report("note", text=f"stage {name} of {run.path}")
    if name in run.stages and (random := run.untrained(name)):
        report("note", text=f"warning: {', '.join(random)} was trained for no epoch: its weights are random.")
