"""Measure everything, or some sections, and write RESULTS.md: `python tests/benchmarks [SECTION…] [--runs N]`."""

from __future__ import annotations

import argparse
import importlib

from report import write

SECTIONS = {
    "steps": "Training steps",
    "vision": "Vision: a step of the paper's three modules",
    "profiles": "Where a step's time goes",
    "reading": "Windows out of a store",
    "encoding": "Encoding a data set into a store",
    "embed": "Files that are embedded",
    "durations": "Steps as they are estimated and as they are",
    "busy": "Steps on a busy machine",
    "whole_runs": "Whole runs",
    "quality": "Stores of real, trained activations",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], default=[], help=", ".join(SECTIONS))
    parser.add_argument("--runs", type=int, default=7, help="interleaved runs of each way")
    arguments = parser.parse_args()
    for name in arguments.sections or SECTIONS:
        print(f"## {SECTIONS[name]}\n", flush=True)
        tables = []
        for table in importlib.import_module(name).main(arguments.runs):
            print(f"{table}\n", flush=True)
            tables.append(str(table))
        write(name, SECTIONS[name], "\n\n".join(tables))


if __name__ == "__main__":
    main()
