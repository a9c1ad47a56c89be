"""The verbs about data: init, and data list, check, fetch, align."""

from __future__ import annotations

import json
import os
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from stagewise.cli import options
from stagewise.cli.options import echo
from stagewise.text import counted


@click.command()
@click.argument("folder", type=options.PLACE)
@options.kind("Which files to take; the more frequent ones when left out.")
@options.LABELS
@click.option(
    "--time", "budget", metavar="TIME", callback=options.seconds, help="How long it may take; 2 h if left out."
)
@click.option("--out", metavar="FILE", type=options.PLACE, help="Pipeline file to write; NAME.toml when left out.")
@click.option("--force", is_flag=True, help="Overwrite the file if it is there.")
def init(
    folder: Path,
    kind: Literal["audio", "images"] | None,
    labels: str | None,
    budget: float | None,
    out: Path | None,
    force: bool,
) -> None:
    """Write a pipeline file that fits a FOLDER and this machine.

    FOLDER holds audio files or images. The file says why its values were chosen. Then its plan is printed, as
    `stagewise plan` does. TIME, such as "30 min", is met as far as it can be told beforehand: give or take a factor of
    three.

    \b
    stagewise init data/birds --time "1 h"
    stagewise init digits --labels "{digit}_{speaker}_*.wav"
    stagewise init /photos --kind images --out pipelines/photos.toml
    """
    from stagewise import durable
    from stagewise.cli.progress import terminal_report
    from stagewise.datasets.bad_items import remembering
    from stagewise.datasets.files import find
    from stagewise.errors import ConfigError
    from stagewise.starting.recipe import this_machine
    from stagewise.starting.survey import look

    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip("-._")[:64] or "pipeline"
    file = out or Path(f"{name}.toml")
    if out is not None and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", out.stem):
        name = out.stem
    if file.is_dir() or (blocked := next((place for place in file.parents if place.is_file()), None)):
        place = file if file.is_dir() else blocked
        raise ConfigError(f"{file} cannot be written: {place} is in its place. Name another with --out.")
    if file.exists() and not force:
        raise ConfigError(f"{file} is there already: name another with --out, or type --force to overwrite it.")
    found = find(folder)
    taken = kind or found.kinds[0]
    if not found.count(taken):
        raise ConfigError(f"{folder} holds no {'audio files' if taken == 'audio' else 'images'}: leave --kind out.")
    for other in found.kinds:
        if other != taken:
            echo(
                f"{folder} holds {counted(found.count('audio'), 'audio file')} and "
                f"{counted(found.count('images'), 'image')}: took {taken}; type --kind {other} to take the others.",
                err=True,
            )
    with terminal_report() as report, remembering():
        content = replace(look(found, taken, report), labels=labels)
        report("note", text=f"choosing a pipeline for {counted(len(content.names), 'file')} and planning it …")
        from stagewise.cli.tables import print_plan  # these take seconds, too
        from stagewise.planning.facts import plan_facts
        from stagewise.starting.choose import BUDGET, encoded
        from stagewise.starting.write import start

        text, plan = start(content, this_machine(), name, file, report, budget or BUDGET)
    written = encoded(text)
    file.parent.mkdir(parents=True, exist_ok=True)
    durable.write_bytes(file, written)
    echo(f"{file} is written. Look at it, then type: stagewise run {shlex.quote(str(file))}")
    print_plan(plan_facts(plan))


@click.group()
def data() -> None:
    """Look at data, fetch data sets, and label speech.

    \b
    stagewise data list
    stagewise data check FOLDER
    stagewise data fetch librispeech --subset train-clean-100
    stagewise data align FOLDER --out phones.txt
    """


@data.command("list")
@options.JSON
def list_(as_json: bool) -> None:
    """List the built-in data sets: their sizes and needs.

    \b
    stagewise data list
    """
    from stagewise.starting.built_in import built_in, size_words

    sets = built_in()
    if as_json:
        click.echo(json.dumps({"format": 1, "data": sets}, indent=1))
        return
    for each in sets:
        echo(f"{each['name']}: {each['what']}")
        for subset, size in each["sizes"].items():
            echo(f"  {size_words(subset, size)}")
        echo(f"  needs: {each['needs']}\n")


@data.command()
@click.argument("folder", type=options.PLACE)
@options.kind("Which files to look at; both when left out.")
@options.LABELS
@options.JSON
def check(folder: Path, kind: Literal["audio", "images"] | None, labels: str | None, as_json: bool) -> None:
    """Look at every audio file and image below FOLDER.

    It prints counts, durations, sizes, classes, bad files with reasons, and whether `init` can work with them; exit
    code 1 if it cannot, or a file is bad; 2 if labels are to be mended or chosen. Files' sizes, headers and ends are
    looked at, silent recordings are named, and JPEGs are decoded.

    \b
    stagewise data check data/birds
    stagewise data check /photos --kind images --json
    """
    from stagewise.cli.progress import terminal_report
    from stagewise.datasets.bad_items import remembering
    from stagewise.datasets.files import find
    from stagewise.errors import ConfigError, DataError
    from stagewise.starting.choose import verdict, verdict_words
    from stagewise.starting.survey import facts, look, words

    found = find(folder)
    if kind is not None and not found.count(kind):
        raise ConfigError(f"{folder} holds no {'audio files' if kind == 'audio' else 'images'}: leave --kind out.")
    with terminal_report() as report, remembering():
        kinds = [kind] if kind else found.kinds
        contents = [replace(look(found, each, report, inside=True), labels=labels) for each in kinds]
        looked = [facts(content) | verdict(content, len(found.kinds) == 1) for content in contents]
    if as_json:
        click.echo(json.dumps({"format": 1, "folder": str(folder), "found": looked}, indent=1))
    else:
        for content in looked:
            head, *rest = words(content)
            echo("\n".join([head, *(f"  {line}" for line in rest)]))
            for bad in content["bad"]:
                echo(f"  bad: {bad['file']}: {bad['reason']}")
            *lines, last = verdict_words(content)
            echo("\n".join([*(f"  {line}" for line in lines), last]))
    unfit = f"init can make no pipeline file of {folder}: see why above."
    if any(content.get("to_choose") for content in looked):
        raise ConfigError(unfit)
    bad, files = (sum(count) for count in zip(*((len(c["bad"]), c["files"]) for c in looked), strict=True))
    if bad:
        raise DataError(
            f"{bad:,} of {counted(files, 'file')} cannot be used: repair them or take them away; up to 1 % of them are "
            'left out with data.bad_items = "skip", more with a number in its place.'
        )
    if not any(content["fit"] for content in looked):
        raise DataError(unfit)


@data.command()
@click.argument("name", type=click.Choice(["librispeech", "stl10"]))
@click.option("--subset", metavar="NAME", help="Which part of LibriSpeech; train-clean-100 when left out.")
@click.option(
    "--root",
    metavar="DIR",
    type=options.PLACE,
    help="Folder to put it in; data, or data/stl10, if left out.",
)
def fetch(name: str, subset: str | None, root: Path | None) -> None:
    """Download a data set, unless it is there.

    All of its files are looked at, too. An archive is checked against its published sum before it is unpacked. A
    download that is interrupted starts over when the command is typed again; one that is done is not repeated. Where
    unpacking was interrupted, it says which folder to delete first. The archive stays beside what was unpacked from it:
    delete it to save room.

    \b
    stagewise data fetch librispeech --subset train-clean-100 --root data
    stagewise data fetch stl10
    """
    from stagewise.starting.built_in import ROOTS
    from stagewise.starting.built_in import fetch as fetch_into

    if name == "librispeech" and subset is None:
        subset = "train-clean-100"
    place = root or Path(ROOTS[name])
    found = fetch_into(name, place, subset)
    where = f'data.target = "{name}", data.root = "{place}"' + (f', data.subset = "{subset}"' if subset else "")
    echo(f"{counted(len(found), 'item is', 'items are')} there: {where}.")


@data.command()
@click.argument("root", type=options.PLACE)
@click.option("--out", metavar="FILE", required=True, type=options.PLACE, help="File of phone labels to write.")
@click.option("--jobs", type=click.IntRange(1), help="Processes; as many as there are cores when left out.")
@options.JSON
def align(root: Path, out: Path, jobs: int | None, as_json: bool) -> None:
    """Label transcribed English speech below ROOT with phones.

    There is one for every 10 ms, as `data.phones` takes them. A transcript is NAME.txt beside NAME.wav or .flac, or the
    line `NAME text` of a file *.trans.txt there, as LibriSpeech has them. FILE.items.jsonl says what became of every
    item; typed again, the command goes on from it. There are 40 classes: silence, and then 39 phones from AA to ZH. It
    needs the extra `align`.

    \b
    stagewise data align data/LibriSpeech/dev-clean --out dev-clean-phones.txt
    stagewise data align interviews --out interviews-phones.txt --jobs 4 --json
    """
    from stagewise.aligning.align import align as align_below
    from stagewise.aligning.align import facts, words
    from stagewise.cli.progress import terminal_report

    with terminal_report() as report:
        found = facts(out, align_below(root, out, jobs or os.cpu_count() or 1, report))
    if as_json:
        click.echo(json.dumps(found, indent=1))
        return
    echo("\n".join(words(found)))
    echo(f'{out} is written: set data.phones = "{out}"; {found["items_file"]} tells of every item.')
