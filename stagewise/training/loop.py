"""A stage trained until it converges: epochs, early stopping, checkpoints, the log."""

from __future__ import annotations

import json
import math
import time
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from stagewise import durable
from stagewise.environment import machine
from stagewise.errors import IntegrityError, NumberError
from stagewise.objectives import Score
from stagewise.runs.records import WEIGHTS, same_weights
from stagewise.seeds import derive_seed
from stagewise.signals import Stop
from stagewise.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    read_tensors,
    restore,
    save_checkpoint,
    state_of,
    write_tensors,
)
from stagewise.training.feed import Feed
from stagewise.training.memory_measured import measured
from stagewise.training.schedule import replay
from stagewise.training.step import (
    GRADIENT_NORM,
    Job,
    Member,
    Progress,
    Report,
    place_windows,
    train_together,
    updates_after,
)
from stagewise.training.validate import (
    add_noise,
    deviations,
    has_converged,
    is_better,
    make_input,
    name_items,
    prepare_objectives,
    validate,
)
from stagewise.training.windows import Batch

AGAIN = "validation again"  # seeds the windows and draws that the chosen weights are scored on
MEASURED_STEPS = (1, 2)  # the second step is the first with the optimizer's state


class Training:
    """The training of a job's members; its checkpoints lie in the folder of the topmost."""

    def __init__(self, job: Job, stop: Stop, report: Report) -> None:
        self.job, self.stop, self.report = job, stop, report
        self.checkpoints = job.members[-1].folder / "checkpoint"
        self.feed = Feed(job.source)
        self.progress = Progress(
            machine=machine(job.device), weights_below=job.weights_below, judged=job.validation.count
        )
        self.saves, self.best_before = 0, ""
        self.noise_C: Tensor | None = None
        self.saved_at = self.clock = time.monotonic()

    def run(self) -> Progress:
        """Train until convergence or the last epoch, and leave every member's weights and metrics in its folder.

        Raises:
            NumberError: a loss or a weight is NaN or infinite.
            Interrupted: a signal asked to stop; a checkpoint was written.
            DiskError: a checkpoint cannot be written; the one before is kept.
        """
        self._resume()
        progress, job = self.progress, self.job
        if not progress.history:
            self._end_epoch()  # the untrained stage: what every later loss is compared with
        if job.noise and progress.epoch < job.epochs:
            self.noise_C = job.noise * deviations(job)
        while progress.epoch < job.epochs and not self.converged:
            self._train_epoch()
        self._finish()
        return progress

    @property
    def converged(self) -> bool:
        """Whether training ended before its last epoch, or would."""
        return has_converged(self.progress, self.job.patience)

    def _train_epoch(self) -> None:
        job, progress = self.job, self.progress
        epoch, steps = progress.epoch + 1, job.windows.steps(job.batch_size)
        batches = job.windows.batches(job.batch_size, job.seed, job.name, "epoch", epoch)
        for member in job.members:
            member.trainee.stage.train()
            member.trainee.objective.train()
        for batch, stored in self.feed(islice(batches, progress.step, None)):
            scores = self._step(epoch, batch, stored)
            progress.step += 1
            progress.steps += 1
            for member, score in zip(job.members, scores, strict=True):
                if score is not None:
                    self._add(member, self._numbers(member, score, epoch, batch))
            self.report(
                "step",
                stage=job.name,
                epoch=epoch,
                epochs=job.epochs,
                step=progress.step,
                steps=steps,
                rows=job.windows.rows * len(batch.items),
                loss=self._mean(job.members[-1]).get("loss"),
                peak_bytes=progress.peak_bytes,
            )
            if self.stop.signal is not None or time.monotonic() - self.saved_at >= job.checkpoint:
                self._save()
                self.stop.check(f"{job.says('is', 'are')} saved at step {progress.step} of epoch {epoch}.")
        progress.epoch = epoch
        self._end_epoch()

    def _step(self, epoch: int, batch: Batch, stored: Tensor) -> list[Score | None]:
        job, progress = self.job, self.progress
        due = [progress.steps % member.every == 0 for member in job.members]
        seed = ("step", epoch, progress.step)
        torch.manual_seed(derive_seed(job.seed, job.name, *seed))  # for layers that draw, such as dropout
        where = place_windows(job.members, batch, job.seed, *seed)

        def step() -> list[Score | None]:
            x_BCT = make_input(job, stored)
            if self.noise_C is not None:
                add_noise(x_BCT, self.noise_C, derive_seed(job.seed, job.name, "noise", *seed))
            trainees = [member.trainee for member in job.members]
            return train_together(trainees, x_BCT, where, *prepare_objectives(job, batch, where, *seed), due)

        if progress.steps + 1 not in MEASURED_STEPS:
            return step()
        existing = sum(t.numel() * t.element_size() for t in self._state().values())
        with measured(job.device, existing) as peak:
            scores = step()
        progress.peak_bytes = max(progress.peak_bytes, peak.bytes)
        return scores

    def _numbers(self, member: Member, score: Score, epoch: int, batch: Batch) -> dict[str, float]:
        numbers = {"loss": score.loss.item()} | {name: value.item() for name, value in score.metrics.items()}
        bad = next((name for name in ("loss", GRADIENT_NORM) if not math.isfinite(numbers[name])), None)
        if bad is not None:
            kept = (
                f"the checkpoint of epoch {self.progress.history[member.name][-1]['epoch']} is kept"
                if self.saves
                else "nothing is lost"
            )
            raise NumberError(
                f"stage {member.name}, epoch {epoch}, step {self.progress.step}: the "
                f"{bad.replace('_', ' ')} is {numbers[bad]} ({name_items(self.job, batch)}); {kept}. Lower the "
                f"learning rate, for example with `--set stage.{member.name}.train.optimizer.lr=1e-4`, or set "
                "train.clip_gradient_norm; check these items if it comes back."
            )
        return numbers

    def _add(self, member: Member, numbers: dict[str, float]) -> None:
        progress = self.progress
        sums = progress.sums.setdefault(member.name, {})
        for name, value in numbers.items():
            sums[name] = sums.get(name, 0.0) + value
        progress.scored[member.name] = progress.scored.get(member.name, 0) + 1

    def _mean(self, member: Member) -> dict[str, float]:
        sums = self.progress.sums.get(member.name, {})
        return {name: value / self.progress.scored[member.name] for name, value in sums.items()}

    def _end_epoch(self) -> None:
        """Validate, note the epoch, keep the best weights, and write a checkpoint."""
        progress, job = self.progress, self.job
        (validated, health), total, seconds = self._validate(), 0.0, round(self._elapsed(), 3)
        records = {}
        for member in job.members:
            record: dict[str, Any] = {"epoch": progress.epoch, "steps": progress.steps}
            record |= self._mean(member)
            record |= {f"validation_{name}": value for name, value in validated[member.name].items()}
            if member.trainee.schedule is not None:
                record["learning_rate"] = float(member.trainee.schedule.get_last_lr()[0])
            records[member.name] = record | {"seconds": seconds}
            loss = record.get("validation_loss", record.get("loss"))
            total = math.inf if loss is None else total + loss
        progress.sums, progress.scored, progress.step = {}, {}, 0
        if is_better(total, progress):
            name = f"best-{progress.epoch}.safetensors"
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            progress.best_sha256 = write_tensors(self.checkpoints / name, self._weights())
            progress.best_loss, progress.best_epoch = (total if math.isfinite(total) else None), progress.epoch
            progress.best_file, progress.health = name, health  # of the weights that will be frozen
        for member in job.members:
            progress.history.setdefault(member.name, []).append(records[member.name])
        self._save()
        for member in job.members:
            self.report("epoch", stage=member.name, epochs=job.epochs, **records[member.name])
        self.stop.check(f"{job.says('is', 'are')} saved after epoch {progress.epoch}.")

    def _validate(self) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, Any]]]:
        try:
            return validate(self.job)
        except NumberError as error:
            raise NumberError(f"after epoch {self.progress.epoch}, {error}") from None

    def _elapsed(self) -> float:
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.progress.waited, self.clock = self.progress.waited + self.feed.waited, now
        self.feed.waited = 0.0
        return self.progress.seconds

    def _state(self) -> dict[str, Tensor]:
        return {
            f"{member.name}/{name}": tensor
            for member in self.job.members
            for name, tensor in state_of(_parts(member), member.trainee.optimizer).items()
        }

    def _weights(self) -> dict[str, Tensor]:
        return {
            f"{member.name}/{name}": tensor
            for member in self.job.members
            for name, tensor in state_of(_parts(member), None).items()
        }

    def _save(self) -> None:
        self._elapsed()
        self.saves += 1
        for member in self.job.members:
            if not all(bool(torch.isfinite(p).all()) for p in member.trainee.parameters()):
                raise NumberError(
                    f"stage {member.name}: the last step made weights NaN or infinite; the checkpoint before is kept. "
                    f"Lower the learning rate with `--set stage.{member.name}.train.optimizer.lr=1e-4`, or set "
                    "train.clip_gradient_norm."
                )
        save_checkpoint(self.checkpoints, Checkpoint(self.saves, dict(vars(self.progress)), self._state()))
        for old in self.checkpoints.glob("best-*.safetensors"):
            if old.name not in (self.progress.best_file, self.best_before):  # the other slot names the one before
                old.unlink()
        self.best_before = self.progress.best_file
        self.saved_at = time.monotonic()

    def _resume(self) -> None:
        checkpoint, discarded = load_checkpoint(self.checkpoints)
        for line in discarded:
            self.report("note", text=line)
        if checkpoint is None:
            return
        progress = Progress(**checkpoint.progress)
        best = self.checkpoints / progress.best_file
        whole = best.exists() and durable.sha256_of(best) == progress.best_sha256
        if not whole or not same_weights(progress.weights_below, self.job.weights_below):
            why = "the stage below has other weights now" if whole else f"{best} is damaged"
            self.report("note", text=f"{why}: {self.job.says('starts', 'start')} over.")
            durable.remove(self.checkpoints)
            return
        for member in self.job.members:
            restore(_of(member, checkpoint.tensors), _parts(member), member.trainee.optimizer)
            if member.trainee.schedule is not None:
                replay(member.trainee.schedule, updates_after(progress.steps, member.every))
        if progress.machine not in (None, self.progress.machine):
            self.report(
                "note",
                text=f"{self.job.says('was', 'were')} trained on another machine so far ({progress.machine}; this is "
                f"{self.progress.machine}): the last bits may differ from those of a run on one machine.",
            )
        if self._judged(progress) != self.job.validation.count:  # losses over other windows do not compare
            progress.best_loss = None
            if progress.epoch < self.job.epochs:
                self.report(
                    "note",
                    text=f"{self.job.says('was', 'were')} judged by other windows so far: the best weights are chosen "
                    f"from epoch {progress.epoch + 1} on.",
                )
        progress.judged = self.progress.judged
        progress.machine, progress.weights_below = self.progress.machine, self.job.weights_below
        self.progress, self.saves, self.best_before = progress, checkpoint.number, progress.best_file
        self.report(
            "note", text=f"{self.job.says('goes', 'go')} on after epoch {progress.epoch}, step {progress.step}."
        )

    def _judged(self, progress: Progress) -> int:
        """Return how many held-out windows the losses of a checkpoint are means of.

        Version 0.1 did not write it down, and left out those that filled no last batch.
        """
        if progress.judged is not None:
            return progress.judged
        held, size = self.job.validation, self.job.batch_size
        validated = any("validation_loss" in record for records in progress.history.values() for record in records)
        return held.steps(size) * min(size, held.count) if validated else 0

    def _finish(self) -> None:
        """Put the best weights in place of the last ones and write what each stage leaves behind."""
        best = self.checkpoints / self.progress.best_file
        if durable.sha256_of(best) != self.progress.best_sha256:  # it may be days old
            raise IntegrityError(
                f"{best} is not what was written. Type the same command again: {self.job.says('starts', 'start')} over."
            )
        tensors, older = read_tensors(best), False
        for member in self.job.members:
            own = _of(member, tensors)
            if not all(name.startswith(("stage.", "objective.")) for name in own):
                own, older = {f"stage.{name}": tensor for name, tensor in own.items()}, True  # of version 0.1
            if not all(bool(torch.isfinite(t).all()) for t in own.values() if t.is_floating_point()):
                raise NumberError(
                    f"stage {member.name}: weights are NaN or infinite after training; nothing is frozen. Lower the "
                    f"learning rate with `--set stage.{member.name}.train.optimizer.lr=1e-4`."
                )
            restore(own, {"stage": member.trainee.stage} if older else _parts(member), None)
            write_tensors(member.folder / WEIGHTS, member.trainee.stage.state_dict())
            lines = (json.dumps(record).encode() + b"\n" for record in self.progress.history[member.name])
            durable.write_bytes(member.folder / "metrics.jsonl", lines)
        if self.progress.best_epoch and not older and self.job.validation.starts.any():
            # The best of many noisy losses is a lucky one: what is reported is measured on windows that chose nothing.
            self.progress.scored_again = validate(self.job, AGAIN)[0]


def _parts(member: Member) -> dict[str, nn.Module]:
    return {"stage": member.trainee.stage, "objective": member.trainee.objective}


def _of(member: Member, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = f"{member.name}/"
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
