"""What is disturbed: a run, its file changed and run again, `clean`; and what must come out all the same."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import tiny
from injection import Disk

TOML = (
    tiny.TOML[: tiny.TOML.index('[[stage]]\nname = "context"')]
    + """
[[probe]]
name = "speaker"
stages = ["two"]
labels = "speaker"
pool = "mean"
epochs = 2
[[probe]]
name = "phones"
stages = ["one"]
labels = "phones"
epochs = 1
"""
)
SETS = ("defaults.train.checkpoint=0 s", "defaults.train.epochs=1")  # a checkpoint after every step
CHANGED = ("stage.one.store.dtype=float16",)  # the first is encoded again, the second trained again
LOG = ("events.jsonl", "run.lock", "run.holder.json")  # they tell of a run, and no result depends on them
TIMED = ("stage.json", "metrics.jsonl", "pipeline.lock.json")  # they hold seconds

KILLED = (-signal.SIGKILL,)
EXPECTED = {"kill": KILLED, "torn": KILLED, "power": KILLED, "ENOSPC": (0, 1), "EIO": (0, 1)} | {
    # What is asked for when all is done, or before anything is begun, ends as the system has it.
    name: (0, 128 + signal.Signals[name], -signal.Signals[name])
    for name in ("SIGTERM", "SIGINT", "SIGHUP")
}


def commands(file: Path, run: Path) -> list[list[str]]:
    """Return the command lines; carried out again from the first, they end where they would have ended."""
    start = ["run", str(file), "--run", str(run)]
    first, second = ([w for text in sets for w in ("--set", text)] for sets in (SETS, SETS + CHANGED))
    return [start + first, start + second, ["clean", str(run), "--yes"]]


def carry_out(lines: list[list[str]]) -> int:
    """Run command lines in this process and return the first exit code that is not 0."""
    from stagewise.cli.main import main

    for line in lines:
        try:
            main(line)
        except SystemExit as end:
            if end.code:
                return int(end.code)
    return 0


def child(work: Callable[[], int], words: Path) -> int:
    """Do some work in a forked child whose words go into a file; return its exit code, negative for a signal."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        descriptor = os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1), os.dup2(descriptor, 2)
        code = 99
        try:
            code = work()
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def results(run: Path) -> dict[str, str]:
    """Every file of a run with the hash of what must be the same in every run of it."""
    found = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        if path.is_file() and path.name not in LOG:
            timed = path.name in TIMED
            found[name] = "" if timed else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def disturbed(folder: Path, kind: str, number: int, calm: dict[str, str]) -> tuple[str, str]:
    """Do harm at the N-th operation, go on without it, and compare.

    Args:
        folder: empty.
        kind: of harm.
        number: of the operation.
        calm: results of an undisturbed run.

    Returns:
        "untouched" when there are fewer operations, "survived", or what was wrong; and where harm was done.
    """
    file, run, log = tiny.write_pipeline(folder, TOML), folder / "run", folder / "harm.log"
    lines = commands(file, run)

    def work() -> int:
        Disk(run, kind, number, log).patch()
        return carry_out(lines)

    code, words = child(work, folder / "first.txt"), folder / "first.txt"
    if not log.exists():
        return ("untouched" if code == 0 else f"exit code {code}: {words.read_text()}"), ""
    where, said = log.read_text(), words.read_text()
    if code not in EXPECTED[kind]:
        return f"exit code {code}: {said[-800:]}", where
    if "Traceback" in said or "unforeseen" in said:
        return f"not in words: {said[-800:]}", where
    if code == 1 and not any(word in said for word in ("disk full", "nput/output error")):
        return f"the disk is not named: {said[-800:]}", where
    again, words = child(lambda: carry_out(lines), folder / "again.txt"), folder / "again.txt"
    if again != 0:
        return f"again: exit code {again}: {words.read_text()[-800:]}", where
    problem = compare(results(run), calm)
    if problem:
        return problem, where
    code, words = child(lambda: carry_out([["verify", str(run)]]), folder / "verify.txt"), folder / "verify.txt"
    return ("survived" if code == 0 else f"verify: {code}: {words.read_text()[-800:]}"), where


def compare(found: dict[str, str], calm: dict[str, str]) -> str:
    """Say in what the results of two runs differ, "" if in nothing."""
    if found.keys() - calm.keys():
        return f"left over: {sorted(found.keys() - calm.keys())}"
    if calm.keys() - found.keys():
        return f"missing: {sorted(calm.keys() - found.keys())}"
    other = [name for name in calm if found[name] != calm[name]]
    return f"DIFFERENT: {other}" if other else ""
