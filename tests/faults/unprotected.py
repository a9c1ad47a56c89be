"""Take protections away, one after another, on a copy of the package, and see that the test of each fails.

    python tests/faults/unprotected.py              # all of them, some minutes
    python tests/faults/unprotected.py --rows 8 11  # those of these rows of README.md

A proof that passes without what it proves is none. Prints what each test then said; the exit code is 1 if one passed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Protection:
    """A line that protects, and the test that fails without it.

    Attributes:
        row: of README.md.
        file: below `stagewise/`.
        line: what stands there, once.
        without: what is put in its place.
        test: below `tests/`.
    """

    row: int
    file: str
    line: str
    without: str
    test: str


CHECKPOINT = "training/test_training_checkpoint.py::test_an_interrupted_save_leaves_the_other_slot"
FLIPPED = "stores/test_stores_damage.py::test_every_flipped_bit_in_a_shard_is_found"
DELETED = "stores/test_stores_damage.py::test_truncated_emptied_longer_or_deleted_shard"
SEALED = "faults/test_faults_hostile.py::test_a_record_that_lies_under_its_seal"
WEIGHTS = "runs/test_runs_damage.py::test_damaged_weights_stop_a_run_before_it_trains"
WRITERS = "runs/test_runs_damage.py::test_two_writers"
SKIPPED = "faults/test_faults_data_files.py::test_bad_files_are_named_before_anything_is_trained"
LOSS = "training/test_training_step.py::test_a_loss_that_is_not_finite_changes_nothing"
OVERFLOW = "faults/test_faults_numbers.py::test_float16_overflow"
TARGET = "faults/test_faults_hostile_files.py::test_a_target_of_another_kind_is_neither_called_nor_imported_from_here"
LINK = "faults/test_faults_company.py::test_a_link_inside_a_run_is_not_followed"
SECOND = "faults/test_faults_signals.py::test_a_second_signal_ends_at_once"
MACHINE = "runs/test_runs_weights.py::test_another_machine_is_said_and_rows_are_not_mixed"
CLEAN = "faults/test_faults_company.py::test_a_kill_in_clean"

PROTECTIONS = (
    Protection(4, "training/checkpoint.py", "SLOTS[checkpoint.number % 2]", "SLOTS[0]", CHECKPOINT),
    Protection(8, "stores/layout.py", "if bytes(block[-CRC_BYTES:]) != crc32c(body):", "if False:", FLIPPED),
    Protection(9, "stores/read.py", "found != shard.bytes", "False", DELETED),
    Protection(10, "runs/schemas.py", "        shape.model_validate(content)", "        pass", SEALED),
    Protection(11, "runs/records.py", "same = durable.sha256_of(folder / name) == digest", "same = True", WEIGHTS),
    Protection(15, "runs/folder.py", "lock.acquire()", "pass", WRITERS),
    Protection(17, "datasets/bad_items.py", "MAX_SKIPPED = 0.01", "MAX_SKIPPED = 1.0", SKIPPED),
    Protection(22, "training/step.py", "if torch.isfinite(score.loss + norm):", "if True:", LOSS),
    Protection(23, "stores/write.py", 'if self._spec.dtype == "float16" and max', "if False and max", OVERFLOW),
    Protection(26, "pipeline/targets.py", "if not _is_a(found, kind):", "if False:", TARGET),
    Protection(26, "runs/folder.py", "        self.check_place()\n", "", LINK),
    Protection(28, "signals.py", "        if stop.signal is not None:", "        if False:", SECOND),
    Protection(36, "stores/journal.py", "        if known != machine:\n            return None\n", "", MACHINE),
    Protection(
        37, "durable.py", "        publish(path, trash)\n        _delete(trash)", "        _delete(path)", CLEAN
    ),
)


def without(protection: Protection, package: Path) -> None:
    """Take a protection away from a copy of the package."""
    path = package / protection.file
    text = path.read_text()
    assert text.count(protection.line) == 1, f"{path} holds {protection.line!r} {text.count(protection.line)} times"
    path.write_text(text.replace(protection.line, protection.without))


def said_by(test: str, folder: Path) -> tuple[bool, str]:
    """Run a test on the copy in a folder; return whether it failed, and its first word of why."""
    made = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider", f"tests/{test}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    why = [line for line in made.stdout.splitlines() if line.startswith("E  ")]
    broken = any(word in why[0] for word in ("SyntaxError", "ImportError", "NameError")) if why else True
    return made.returncode == 1 and not broken, why[0][1:].strip() if why else made.stdout.strip().splitlines()[-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[], help="of README.md; all of them if none is named")
    rows = parser.parse_args().rows
    chosen = [protection for protection in PROTECTIONS if not rows or protection.row in rows]
    passed = 0
    for protection in chosen:
        with tempfile.TemporaryDirectory() as name:
            for part in ("stagewise", "tests", "pipelines", "pyproject.toml"):
                copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
                copy(ROOT / part, Path(name) / part)
            without(protection, Path(name) / "stagewise")
            failed, why = said_by(protection.test, Path(name))
        passed += not failed
        print(f"row {protection.row}: without {protection.line.strip()!r} of {protection.file}", flush=True)
        print(f"    {'fails' if failed else 'PASSES'}: {protection.test}: {why}", flush=True)
    print(f"{len(chosen)} protections taken away, {len(chosen) - passed} noticed")
    return 1 if passed else 0


if __name__ == "__main__":
    sys.exit(main())
