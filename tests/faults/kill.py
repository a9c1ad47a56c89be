"""Kill a run with SIGKILL at random moments, go on each time, and compare with an undisturbed run.

    python tests/faults/kill.py --kills 20                       # the quickstart
    python tests/faults/kill.py --kills 5 pipelines/x.toml --set data.root=/audio

Prints a line a kill, and exits 1 if one encoder, store, or probe result differs, a file is left over, or `verify`
finds anything.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPO = Path(__file__).parents[2]
sys.path.insert(0, str(REPO / "tests"))

from tiny import results  # noqa: E402


def start(file: str, sets: list[str], run: Path) -> subprocess.Popen[bytes]:
    options = [word for item in sets for word in ("--set", item)]
    command = [sys.executable, "-m", "stagewise", "run", file, "--run", str(run), *options]
    return subprocess.Popen(command, cwd=REPO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", default="pipelines/quickstart.toml")
    parser.add_argument("--set", dest="sets", action="append", default=[])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        calm, killed = Path(folder) / "calm", Path(folder) / "killed"
        begun = time.monotonic()
        assert start(arguments.file, arguments.sets, calm).wait() == 0
        whole = time.monotonic() - begun
        print(f"undisturbed: {whole:.1f} s", flush=True)
        begun = time.monotonic()
        start(arguments.file, arguments.sets, calm).wait()
        idle = time.monotonic() - begun  # what a start costs before it does anything
        done = 0
        while done < arguments.kills:
            # Spread so that the kills together reach through the whole run.
            moment = idle + rng.uniform(0, 2 * (whole - idle) / arguments.kills)
            child = start(arguments.file, arguments.sets, killed)
            try:
                code = child.wait(timeout=moment)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
                done += 1
                stages = sorted(p.parent.name for p in killed.glob("stages/*/stage.json"))
                print(f"kill {done:2} after {moment:5.1f} s; stages done: {len(stages)}", flush=True)
                continue
            assert code == 0, f"exit code {code}"
            print("finished before the next kill: starting the run again", flush=True)
            if results(killed) != results(calm):
                break
            subprocess.run(["rm", "-rf", str(killed)], check=True)
        child = start(arguments.file, arguments.sets, killed)
        assert child.wait() == 0
        verified = subprocess.run([sys.executable, "-m", "stagewise", "verify", str(killed)], cwd=REPO, check=False)
        same = results(killed) == results(calm)
        left = [
            str(p) for p in killed.rglob("*") if ".partial" in p.name or ".trash" in p.name or p.name == "checkpoint"
        ]
        words = "all the same" if same else "DIFFERENT"
        print(f"{done} kills; {len(results(calm))} files compared: {words}; left: {left}")
        return 0 if same and not left and verified.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
