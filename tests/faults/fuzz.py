"""Mutate pipeline files and runs at random: every command ends in words, and nothing else is harmed.

    python tests/faults/fuzz.py --files 10000 --runs 2000 --seed 0
    python tests/faults/fuzz.py --sounds 3000 --pictures 1500 --tables 500
    python tests/faults/fuzz.py --runs 1 --first 17            # one case again; its folder is kept and named

What must hold of a pipeline file: `plan` ends with exit code 0, 1, 2 or 3, with no traceback and nothing "unforeseen",
in bounded time and memory, and nothing is written, deleted, executed or connected to.

What must hold of a run one of whose files is damaged: all that for every command, but for files of the run itself; and
`run` ends with 0 and the bytes of an undisturbed run, or with 1 or 3 and the place of the damage. A store that it does
not read, since all is done, stays as it is if it kept its size; `verify` must have named it. Where the damage is a lie
(every hash over it is made right again) other results may come out, but no other end.

What must hold of a recording or an image: it is refused with a reason, or read whole: no shorter than an independent
count says, and with the pixels that Pillow gives; a decoder prints nothing. Of a table: the labels of the undamaged one
where only its encoding or its writing is another, and else a message or labels.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import tiny  # noqa: E402
from file_mutations import PICTURES, SOUNDS, least_samples, mutate, picture, pillow, sound  # noqa: E402
from mutations import damage_run  # noqa: E402
from table_mutations import KEYS, rewrite, try_to_read  # noqa: E402
from text_mutations import mutate_text  # noqa: E402
from watched_child import Ended, carry_out  # noqa: E402

from stagewise.cli.main import main as command  # noqa: E402

PIPELINES = sorted((HERE.parents[1] / "pipelines").glob("*.toml"))
CHEAP = [path for path in PIPELINES if path.stem in ("digits", "quickstart", "librispeech-mfcc")]  # soon planned


def try_file(folder: Path, rng: random.Random) -> tuple[str, Ended, list[str]]:
    """Plan a mutated pipeline file; return what was done to it, how that ended and what was wrong."""
    source = rng.choice(PIPELINES if rng.random() < 0.2 else CHEAP)
    content, what = mutate_text(source.read_bytes(), rng)
    (folder / "x.toml").write_bytes(content)
    ended = carry_out([["plan", "x.toml"]], None, folder / "words")
    problems = list(ended.problems(1))
    if ended.codes and ended.codes[0] and not ended.words.strip():
        problems.append("failed without a word")
    return f"{source.name}: {what}", ended, problems


def try_sound(folder: Path, rng: random.Random) -> tuple[str, Ended, list[str]]:
    """Look at a damaged recording and read it; the exit code stands for: taken or refused."""
    from stagewise.datasets import audio
    from stagewise.errors import DataError

    kind = rng.choice(list(SOUNDS))
    content, what = mutate(kind, sound, rng)
    path = folder / f"x.{kind if rng.random() < 0.8 else rng.choice(list(SOUNDS))}"
    path.write_bytes(content)
    problems = []
    with printed() as said:
        header = audio.probe(str(path))
        if isinstance(header, audio.Header):
            least = least_samples(content)
            if header.rate == 16_000 and header.samples < least - 2400:  # what an encoder adds at both ends
                problems.append(f"{header.samples} samples are taken of {least}")
            try:
                if len(audio.read_samples(str(path), 0, header.samples)) != header.samples:
                    problems.append("it is shorter when it is read")
            except DataError as error:
                if str(path) not in str(error):
                    problems.append(f"the file is not named: {error}")
    problems += [f"printed: {said[0]}"] if said[0] else []
    return f"{kind}: {what}", Ended([int(isinstance(header, str))], str(header)), problems


def try_picture(folder: Path, rng: random.Random) -> tuple[str, Ended, list[str]]:
    """Look at a damaged image and read it, and compare it with what Pillow makes of it."""
    import numpy as np

    from stagewise.datasets import image_files
    from stagewise.errors import DataError

    kind = rng.choice(list(PICTURES))
    content, what = mutate(kind, picture, rng)
    path = folder / f"x.{kind if rng.random() < 0.8 else rng.choice(list(PICTURES))}"
    path.write_bytes(content)
    problems, pixels = [], None
    with printed() as said:
        header = image_files.probe(str(path))
        if isinstance(header, image_files.Header):
            try:
                pixels = image_files.read_pixels(str(path), False, None, (header.height, header.width))
            except DataError as error:
                if str(path) not in str(error):
                    problems.append(f"the file is not named: {error}")
    with printed():
        expected = pillow(content)
    if pixels is not None and expected is None:
        problems.append("Pillow refuses it")
    turned = b"Exif" in content
    if pixels is not None and expected is not None and expected.mode in ("L", "RGB") and not turned:
        problems += [] if np.array_equal(pixels, expected.convert("RGB")) else ["it has other pixels"]
    problems += [f"printed: {said[0]}"] if said[0] else []
    return f"{kind}: {what}", Ended([int(isinstance(header, str))], str(header)), problems


def try_table(folder: Path, rng: random.Random) -> tuple[str, Ended, list[str]]:
    """Read a table, a list or phone labels that another program would have written, or that are damaged."""
    content, what, expected = rewrite(rng)
    path = folder / "x.csv"
    path.write_bytes(content)
    words, labels = try_to_read(path)
    problems = []
    if expected is not None and labels is not None and labels != expected:
        problems.append(f"other labels: {labels}")
    if labels is None and str(path) not in words:
        problems.append(f"the file is not named: {words}")
    if labels is not None and len(labels) != len(KEYS):
        problems.append("labels are missing")
    return what, Ended([int(labels is None)], words), problems


@contextlib.contextmanager
def printed() -> Iterator[list[str]]:
    """Say what is printed to the standard error stream while the body runs."""
    said = [""]
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield said
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            said[0] = file.read().decode(errors="replace")


READING = ("inspect run", "inspect run --json", "verify run", "plan tiny.toml --run run", "report run", "compare run")


def try_run(folder: Path, rng: random.Random, bases: Path) -> tuple[str, Ended, list[str]]:
    """Damage one file of a run and try every command on it."""
    base = rng.choice(("finished", "finished", "finished", "training", "encoding"))
    home, outside = folder / "home", folder / "outside"
    run = home / "run"
    shutil.copytree(bases / base, home)
    outside.mkdir()
    (outside / "file").write_text("mine")
    what, place, lie = damage_run(run, outside, rng)
    shutil.copytree(home, folder / "again", symlinks=True)
    before = contents(outside)
    os.chdir(home)
    ended = carry_out([line.split() for line in READING], home, folder / "words-reading")
    problems = list(ended.problems(len(READING)))
    made = carry_out([["run", "tiny.toml", "--run", "run"]], home, folder / "words-run")
    problems += made.problems(1)
    other = differing(run, bases / "finished/run")
    unread = all("store.zarr" in Path(name).parts for name in other) and ended.codes[READING.index("verify run")] == 3
    if made.codes == [0] and not lie and other and not unread:
        problems.append(f"run ended with 0 and other bytes: {other}")
    elif made.codes and made.codes[0] and not lie and not any(part in made.words for part in place):
        problems.append("run failed and does not name the place")
    os.chdir(folder / "again")
    stage = ["stage", str(rng.randint(1, 3)), "--resume", "--run", "run"]
    last = carry_out([stage, ["clean", "run", "--yes"]], folder / "again", folder / "words-stage")
    problems += last.problems(2)
    if contents(outside) != before:
        problems.append("a file outside was changed")
    codes = [*ended.codes, *made.codes, *last.codes]
    return f"{base}: {what}", Ended(codes, ended.words + made.words + last.words), problems


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def differing(one: Path, other: Path) -> list[str]:
    """Name the results that two runs do not share."""
    first, second = tiny.results(one), tiny.results(other)
    return sorted(name for name in {*first, *second} if first.get(name) != second.get(name))


def make_bases(folder: Path) -> None:
    """Make a finished run, one stopped while training its second stage, and one stopped while encoding it."""
    from stagewise.pipeline import load_pipeline
    from stagewise.runner import make, quiet
    from stagewise.runs.folder import RunFolder
    from stagewise.stores import write

    def stop(kind: str, **facts: Any) -> None:
        if kind == "epoch" and facts.get("stage") == "two" and facts["epoch"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    def work(name: str) -> None:
        file = tiny.write_pipeline(folder / name)
        pipeline = load_pipeline(file)
        if name == "encoding":
            make(pipeline, RunFolder(folder / name / "run"), quiet, until="one")
            write.write_manifest = lambda *_: os._exit(0)  # type: ignore[assignment]
        every_step = load_pipeline(file, ["defaults.train.checkpoint=0 s"]) if name == "training" else pipeline
        make(every_step, RunFolder(folder / name / "run"), stop if name == "training" else quiet)

    for name in ("finished", "training", "encoding"):
        (folder / name).mkdir()
        if (pid := os.fork()) == 0:
            with contextlib.suppress(BaseException):
                work(name)
            os._exit(0)
        os.waitpid(pid, 0)
    assert list(folder.glob("finished/run/probes/*/probe.json"))
    assert list(folder.glob("training/run/stages/2-*/checkpoint/?/state.json"))
    assert list(folder.glob("encoding/run/stages/2-*/trained.json"))


def fuzz(
    count: int, seed: int, first: int, trial: Callable[[Path, random.Random], tuple[str, Ended, list[str]]], name: str
) -> tuple[Counter[int], list[str]]:
    """Try mutations; return how often each exit code came, and what was wrong."""
    codes: Counter[int] = Counter()
    wrong: list[str] = []
    for number in range(first, first + count):
        folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        os.chdir(folder)
        what, ended, problems = trial(folder, random.Random(f"{seed} {name} {number}"))
        codes.update(ended.codes)
        if problems:
            words = [line for line in ended.words.splitlines() if "unforeseen" in line or "Traceback" in line][:3]
            wrong.append("\n    ".join([f"{name} {number} in {folder}: {what}", *problems, *words]))
            print(wrong[-1], flush=True)
        os.chdir("/")
        if not problems and count > 1:
            shutil.rmtree(folder)
        if (number + 1 - first) % 100 == 0:
            print(f"{number + 1 - first} of {count} {name}s: {len(wrong)} violations", flush=True)
    return codes, wrong


def warm(bases: Path) -> None:
    """Import, in this process and before it is forked, what the commands import, and start no thread."""
    for line in ("doctor --json", f"inspect {bases / 'finished/run'}"):
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            command(line.split())
    import torch._subclasses.fake_tensor  # noqa: F401

    import stagewise.planning.facts
    import stagewise.probing.run
    import stagewise.results.compare
    import stagewise.results.report
    import stagewise.runner
    import stagewise.stores.create  # noqa: F401

    gc.freeze()  # a child that collects garbage need not look at what was imported


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=0)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--sounds", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=0)
    parser.add_argument("--tables", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fuzz-bases-") as bases:
        if arguments.files or arguments.runs:
            make_bases(Path(bases))
            warm(Path(bases))
        wrong = []
        for name, count, trial in (
            ("file", arguments.files, try_file),
            ("run", arguments.runs, lambda folder, rng: try_run(folder, rng, Path(bases))),
            ("sound", arguments.sounds, try_sound),
            ("picture", arguments.pictures, try_picture),
            ("table", arguments.tables, try_table),
        ):
            codes, found = fuzz(count, arguments.seed, arguments.first, trial, name)
            wrong += found
            print(f"{count} {name}s: {dict(sorted(codes.items()))} by exit code; {len(found)} violations", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
