"""Do harm at every durable operation of a run, one after another, and see that it survives each.

    python tests/faults/sweep.py                              # everything
    python tests/faults/sweep.py --kinds kill ENOSPC --every 10

The scenario is scenario.py's, the harms are injection.py's. Prints what did not survive, and how many did.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import scenario  # noqa: E402
import tiny  # noqa: E402
from injection import KINDS  # noqa: E402


def imported() -> None:
    """Import what a run needs, and start no thread: children are forked from here."""

    import stagewise.cli.main
    import stagewise.cli.progress
    import stagewise.cli.tables
    import stagewise.runner
    import stagewise.runs.clean
    import stagewise.stores.create
    import stagewise.verify  # noqa: F401

    gc.freeze()  # a child that collects garbage need not look at what was imported


def undisturbed(folder: Path) -> dict[str, str]:
    """Return the results of a run without harm."""
    file, run = tiny.write_pipeline(folder, scenario.TOML), folder / "run"
    code = scenario.child(lambda: scenario.carry_out(scenario.commands(file, run)), folder / "words.txt")
    assert code == 0, (folder / "words.txt").read_text()
    return scenario.results(run)


def sweep(kinds: list[str], every: int, jobs: int = 1, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Return how often harm of each kind was done, and a line for each that was not survived."""
    imported()
    done, bad = Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as name:
        calm_folder = Path(name) / "calm"
        calm_folder.mkdir()
        calm = undisturbed(calm_folder)
        for kind in kinds:
            number = random.Random(f"{seed} {kind}").randrange(every) + 1
            began, ended, running = time.monotonic(), False, dict[int, tuple[int, Path]]()
            while running or not ended:
                while not ended and len(running) < jobs:
                    folder = Path(name) / f"{kind}-{number}"
                    folder.mkdir()
                    running[_start(folder, kind, number, calm)] = number, folder
                    number += every
                pid, _ = os.wait()
                at, folder = running.pop(pid)
                words = (folder / "result.txt").read_text() if (folder / "result.txt").exists() else "crashed\n"
                result, where = words.split("\n", 1)
                if result == "untouched":
                    ended = True
                else:
                    done[kind] += 1
                    if result != "survived":
                        bad.append(f"{kind} {at} ({where.strip()}): {result}")
                        print(bad[-1], flush=True)
                shutil.rmtree(folder)
            print(f"{kind}: {done[kind]} times, {time.monotonic() - began:.0f} s", flush=True)
    return done, bad


def _start(folder: Path, kind: str, number: int, calm: dict[str, str]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            result, where = scenario.disturbed(folder, kind, number, calm)
            (folder / "result.txt").write_text(f"{result!s}".replace("\n", " | ") + f"\n{where}")
        finally:
            os._exit(0)
    return pid


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--every", type=int, default=1, help="1: every operation; 10: every tenth, from a random one")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    done, bad = sweep(arguments.kinds, arguments.every, arguments.jobs, arguments.seed)
    print(f"{done.total()} injections, {done.total() - len(bad)} survived")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
