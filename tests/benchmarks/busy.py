"""Training steps while nothing else runs, and beside programs that want a core each: how threads wait."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from report import Table
from timing import Ratio, Times

STEPS = {"quickstart": 8, "librispeech": 1}  # of every stage
WARM = 2.5  # seconds: two looks of the watcher
LOAD = 2
CORES = len(os.sched_getaffinity(0))
WAYS = {"as a run does": (CORES, True), "as libgomp does": (CORES, False), "one thread": (1, False)}


def main(runs: int) -> Iterator[Table]:
    rows = []
    for name, count in STEPS.items():
        children = {way: child(name, count, *settings) for way, settings in WAYS.items()}
        found: dict[tuple[str, int], list[float]] = {}
        for _ in range(min(runs, 5)):
            for load in (0, LOAD):
                busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(load)]
                try:
                    for way, process in children.items():
                        print(file=process.stdin, flush=True)
                        found.setdefault((way, load), []).append(float(process.stdout.readline()))
                finally:
                    for other in busy:
                        other.kill()
                        other.wait()
        for process in children.values():
            process.stdin.close()
            process.wait()
        quiet = found["as libgomp does", 0]
        for way in WAYS:
            times = [Times(tuple(found[way, load])) for load in (0, LOAD)]
            ratios = [Ratio(tuple(a / b for a, b in zip(t.seconds, quiet, strict=True))) for t in times]
            rows.append([name, way, times[0], ratios[0], times[1], ratios[1]])
    share = f"A fair share beside {LOAD} others is {CORES / (CORES + LOAD):.2f} of the time for {CORES} threads."
    yield Table(
        ["steps of", "threads wait", "quiet", "/ libgomp, quiet", f"beside {LOAD} busy processes", "/ libgomp, quiet"],
        rows,
        [f"{CORES} cores; all stages of the pipeline, the same number of steps of each. {share}"],
    )


def child(name: str, count: int, threads: int, considerate: bool) -> subprocess.Popen[str]:
    """Start a process that takes steps whenever it is sent a line, and writes the seconds."""
    words = [sys.executable, __file__, name, str(count), str(int(considerate))]
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
    process.stdout.readline()
    return process


def steps(name: str, count: int, considerate: bool) -> None:
    """Take steps of every stage for every line that is read."""
    from durations import ALONE, PIPELINES, step_of

    from stagewise.pipeline import load_pipeline
    from stagewise.planning.build import make_trainee
    from stagewise.runner import outline_pipeline
    from stagewise.runs.folder import RunFolder
    from stagewise.threads import considerate as watching

    pipeline = load_pipeline(PIPELINES / f"{name}.toml", ALONE)
    plan = outline_pipeline(pipeline, RunFolder(Path("nowhere")))
    each = [step_of(make_trainee(stage.built), stage) for stage in plan.stages]
    for step in each:
        step()
    print("ready", flush=True)
    for _ in sys.stdin:
        with watching() if considerate else nullcontext():
            begun = time.perf_counter()
            while time.perf_counter() - begun < WARM:
                for step in each:
                    step()
            begun = time.perf_counter()
            for step in each:
                for _ in range(count):
                    step()
            print(time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    steps(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1")
