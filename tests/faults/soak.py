"""A run that is killed at random and goes on, over and over: its results stay the same, its memory and files flat.

    python tests/faults/soak.py --minutes 60

Every time the run is finished it is compared with an undisturbed one, and started again. Memory and open files of every
life are compared between the first and the last quarter of all lives that were long enough to train.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))

import tiny  # noqa: E402
from kill import start  # noqa: E402

SETS = ["defaults.train.epochs=400", "defaults.train.patience=400"]
GROWTH = 1.05  # of the median resident memory, and of open files, from the first quarter to the last
SHORT = 8  # seconds: such a life may have ended before it trained


def watch(child: subprocess.Popen[bytes], seconds: float) -> tuple[int, int]:
    """Return the largest resident memory, KiB, and number of open files of a process until it ends or time is up."""
    resident = files = 0
    end = time.monotonic() + seconds
    while child.poll() is None and time.monotonic() < end:
        try:
            lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
            resident = max(resident, *(int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)
            files = max(files, sum(1 for _ in Path(f"/proc/{child.pid}/fd").iterdir()))
        except OSError:
            break
        time.sleep(0.1)
    return resident, files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--longest", type=float, default=40, help="seconds of the longest life")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, lives, kills, whole, bad = random.Random(arguments.seed), list[tuple[int, int]](), 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = str(tiny.write_pipeline(folder))
        assert start(file, SETS, folder / "calm").wait() == 0
        calm, end = tiny.results(folder / "calm"), time.monotonic() + 60 * arguments.minutes
        while time.monotonic() < end:
            began, child = time.monotonic(), start(file, SETS, folder / "run")
            lived = watch(child, rng.uniform(3, arguments.longest))
            if time.monotonic() - began >= SHORT:
                lives.append(lived)
            if child.poll() is None:
                child.kill()
                child.wait()
                kills += 1
                continue
            whole += 1
            if child.returncode != 0 or tiny.results(folder / "run") != calm:
                bad += 1
                print(f"run {whole}: exit code {child.returncode}, or other results", flush=True)
            print(f"run {whole} done after {kills} kills; {lived[0]} KiB, {lived[1]} files", flush=True)
            subprocess.run(["rm", "-r", str(folder / "run")], check=True)
    quarter = max(1, len(lives) // 4)
    for kind, values in (("KiB resident", [r for r, _ in lives]), ("open files", [f for _, f in lives])):
        first, last = median(values[:quarter]), median(values[-quarter:])
        print(f"{kind}: {first:.0f} in the first quarter of {len(values)} lives, {last:.0f} in the last")
        bad += last > GROWTH * first
    print(f"{kills} kills, {whole} whole runs, {bad} problems")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
