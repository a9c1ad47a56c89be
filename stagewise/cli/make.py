"""The verbs that make something: run, plan, stage, probe."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stagewise.cli import completion
from stagewise.cli.options import FORCE, JSON, PLACE, echo
from stagewise.text import counted

if TYPE_CHECKING:
    from stagewise.pipeline import Pipeline
    from stagewise.runs.folder import RunFolder

FILE = click.argument("file", type=PLACE, shell_complete=completion.pipeline_files)


def _run_option(otherwise: str) -> Callable[[Any], Any]:
    return click.option(
        "--run",
        "run_folder",
        metavar="DIR",
        type=PLACE,
        help=f"Run directory; {otherwise} when left out.",
        shell_complete=completion.runs,
    )


OF_FILE, LAST_RUN = _run_option("runs/ and the pipeline's name"), _run_option("the last run made here")
SET = click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the file, such as data.root=/audio.",
    shell_complete=completion.keys,
)
UNSET = click.option(
    "--unset",
    multiple=True,
    metavar="KEY",
    help="Take a key, a table or a stage or probe out of the file, before any --set.",
    shell_complete=completion.keys_alone,
)
TENSORBOARD = click.option(
    "--tensorboard",
    metavar="DIR",
    type=PLACE,
    help="Also write curves for `tensorboard --logdir DIR`; needs the extra tensorboard.",
)

PLANNING = "planning …"


@click.command()
@FILE
@OF_FILE
@SET
@UNSET
@click.option("--fresh", is_flag=True, help="Delete all that the run directory holds and start over.")
@click.option(
    "--until", metavar="STAGE", help="Stop after this stage, before the probes.", shell_complete=completion.stages
)
@click.option("--dry-run", is_flag=True, help="Only print the plan.")
@TENSORBOARD
@JSON
def run(
    file: Path,
    run_folder: Path | None,
    sets: tuple[str, ...],
    unset: tuple[str, ...],
    fresh: bool,
    until: str | None,
    dry_run: bool,
    tensorboard: Path | None,
    as_json: bool,
) -> None:
    """Train, freeze and encode every stage of FILE; fit its probes.

    Typed again, it goes on where it stopped, and does only what is missing or has changed.

    \b
    stagewise run pipelines/quickstart.toml
    stagewise run pipelines/librispeech.toml --set data.root=/audio --run runs/a
    stagewise run pipelines/quickstart.toml --unset probe.phones
    stagewise run pipelines/quickstart.toml --tensorboard curves/quickstart
    """
    from stagewise.pipeline import load_pipeline

    pipeline = load_pipeline(file, sets, unset)
    folder = _folder(pipeline, run_folder)
    if dry_run:
        if tensorboard is not None:
            raise click.UsageError("--dry-run makes nothing that --tensorboard could show: leave one of them out.")
        _print_plan(pipeline, folder, as_json, until, fresh)
        return
    _make(pipeline, folder, as_json, tensorboard, until=until, fresh=fresh)
    if not as_json and until is None:
        path = shlex.quote(str(folder.path))
        from stagewise.frozen.own_readers import takes
        from stagewise.planning.build import reads_of

        verbs = ["inspect {}", "report {}"]
        if takes(reads_of(pipeline)):
            verbs.append("embed {} FILES --out x.npz")
        echo(f"next: {' · '.join(f'`stagewise {verb.format(path)}`' for verb in verbs)}", err=True)


@click.command()
@FILE
@OF_FILE
@SET
@UNSET
@JSON
def plan(file: Path, run_folder: Path | None, sets: tuple[str, ...], unset: tuple[str, ...], as_json: bool) -> None:
    """Print what `run FILE` would do, and what it would cost.

    Of every stage: whether it is trained and why, memory, disk, and about the time. Nothing is run. It works before
    the data is there if its size is known.

    \b
    stagewise plan pipelines/librispeech.toml
    stagewise plan pipelines/librispeech.toml --set pipeline.memory_limit="1 GiB"
    """
    from stagewise.pipeline import load_pipeline

    pipeline = load_pipeline(file, sets, unset)
    _print_plan(pipeline, _folder(pipeline, run_folder), as_json)
    if not as_json:
        options = [
            *(["--run", str(run_folder)] if run_folder else []),
            *(word for key in unset for word in ("--unset", key)),
            *(word for key in sets for word in ("--set", key)),
        ]
        echo(f"next: `stagewise {shlex.join(['run', str(file), *options])}`", err=True)


@click.command()
@click.argument("stage", metavar="N|NAME", shell_complete=completion.stages)
@LAST_RUN
@click.option("--resume", is_flag=True, help="Go on from the last checkpoint (without it: start the stage over).")
@TENSORBOARD
@JSON
def stage(stage: str, run_folder: Path | None, resume: bool, tensorboard: Path | None, as_json: bool) -> None:
    """Make one stage of a run: train it, freeze it, encode it.

    The stages below it must be done; those above it stay as they are until the next `run`.

    \b
    stagewise stage 2 --resume
    stagewise stage conv2 --run runs/full
    """
    if run_folder is None:
        _refuse_run(stage, "stage N")
    pipeline, folder = _of_run(run_folder)
    names = [s.name for s in pipeline.stage]
    name = names[int(stage) - 1] if stage.isdigit() and 0 < int(stage) <= len(names) else stage
    _make(pipeline, folder, as_json, tensorboard, only=name, restart=not resume)


@click.command()
@click.argument("name", required=False, shell_complete=completion.probes)
@LAST_RUN
@click.option(
    "--predictions",
    metavar="FILE",
    type=PLACE,
    help="Fit nothing; write what NAME said of every test item to FILE.csv or FILE.json.",
)
@FORCE
@JSON
def probe(name: str | None, run_folder: Path | None, predictions: Path | None, force: bool, as_json: bool) -> None:
    """Fit the probes of a finished run again.

    NAME is one of them; all are fitted when it is left out.

    \b
    stagewise probe
    stagewise probe phones --run runs/full
    stagewise probe speaker --predictions speaker.csv
    """
    from stagewise.errors import ConfigError

    if name is not None and run_folder is None:
        _refuse_run(name, "probe")
    if predictions is not None:
        if as_json:
            raise click.UsageError("--predictions writes a file, FILE.json if you like: leave --json out.")
        _write_predictions(name, run_folder, predictions, force)
        return
    pipeline, folder = _of_run(run_folder)
    if not pipeline.probe:
        raise ConfigError(
            f"{folder.path} has no probes: write a [[probe]] into its pipeline file, then `stagewise run`."
        )
    _make(pipeline, folder, as_json, probe=name or "")


def _write_predictions(name: str | None, run_folder: Path | None, out: Path, force: bool) -> None:
    from stagewise.frozen.open import all_predictions, check_table, open_run, write_lines
    from stagewise.runs.folder import find_run

    check_table(out, force, "--predictions")
    count = write_lines(out, all_predictions(open_run(find_run(run_folder).path), name))
    echo(f"{out}: {counted(count, 'line')}")


def _folder(pipeline: Pipeline, run_folder: Path | None) -> RunFolder:
    from stagewise.runs.folder import RunFolder

    return RunFolder(run_folder or Path("runs") / pipeline.pipeline.name)


def _refuse_run(word: str, verb: str) -> None:
    """Refuse a run where the name of a part of it is wanted."""
    from stagewise.errors import ConfigError
    from stagewise.runs.folder import LOCK_FILE

    if (Path(word) / LOCK_FILE).exists():
        raise ConfigError(f"{word} is a run: type `stagewise {verb} --run {shlex.quote(word)}`.")


def _of_run(run_folder: Path | None) -> tuple[Pipeline, RunFolder]:
    """Return the pipeline that a run was made with, and the run."""
    from stagewise.runs.folder import find_run, pipeline_of

    folder = find_run(run_folder)
    return pipeline_of(folder), folder


def _make(pipeline: Pipeline, folder: RunFolder, as_json: bool, tensorboard: Path | None = None, **what: Any) -> None:
    from stagewise.cli.progress import terminal_report
    from stagewise.cli.tensorboard import with_curves
    from stagewise.runs.facts import run_facts

    name, stages = pipeline.pipeline.name, [stage.name for stage in pipeline.stage]
    in_sync = pipeline.pipeline.schedule == "simultaneous" and len(stages) > 1
    group = f"{stages[0]} to {stages[-1]}" if in_sync else ""
    with (
        terminal_report(name, stages, group, PLANNING) as told,
        with_curves(told, tensorboard, stages, group) as report,
    ):
        from stagewise.runner import make  # it takes seconds, too

        make(pipeline, folder, report, **what)
    facts = run_facts(folder)
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        from stagewise.cli.tables import print_run

        print_run(facts)


def _print_plan(
    pipeline: Pipeline, folder: RunFolder, as_json: bool, until: str | None = None, fresh: bool = False
) -> None:
    """Print a plan; what `run` would refuse is refused."""
    from stagewise.cli.progress import terminal_report

    with terminal_report(silence=PLANNING) as report:
        from stagewise.planning.facts import plan_facts  # these take seconds, too
        from stagewise.planning.plan import Plan
        from stagewise.probing.run import plan_labels, planned_probes, probes_left_out
        from stagewise.runner import check_names, outline_pipeline
        from stagewise.runs.clean import finished
        from stagewise.runs.folder import RunFolder

        check_names(pipeline, until)
        folder.check_place()
        made = outline_pipeline(pipeline, RunFolder(folder.path / "nowhere") if fresh else folder, report)
        if not isinstance(made, Plan):
            facts = plan_facts(made)
        else:
            fits = planned_probes(made)
            facts = plan_facts(made, [fit for fit in fits if not fit.is_there])
            for text in probes_left_out(fits)[0]:
                report("note", text=text)
            facts["data"]["labels"] = plan_labels(made, fits)
            for probe in facts["probes"]:
                there = [fit.is_there for fit in fits if fit.probe.name == probe["name"]]
                probe |= {"fits": len(there), "fits_there": sum(there)}
        facts["run"] = str(folder.path)
        if fresh and (lost := finished(folder)):
            facts["warnings"].append(f"--fresh deletes all that {folder.path} holds: {lost}.")
    if as_json:
        click.echo(json.dumps(facts, indent=1))
    else:
        from stagewise.cli.tables import print_plan

        print_plan(facts)
