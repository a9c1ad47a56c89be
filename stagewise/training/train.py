"""Train one stage to convergence: epochs of windows, validation, checkpoints; resumable after any step.

Legend: B items, C channels of x or z, D channels of c, T rows.
"""

from __future__ import annotations

import json
import math
import time
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stagewise import atomic
from stagewise.errors import NumberError
from stagewise.memory.measure import measured
from stagewise.modules.stage_module import Crop, represent
from stagewise.objectives import Score
from stagewise.seeds import derive_seed
from stagewise.stopping import Stop
from stagewise.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    read_tensors,
    restore,
    save_checkpoint,
    state_of,
    write_tensors,
)
from stagewise.training.health import Health
from stagewise.training.job import Job, Progress, Report
from stagewise.training.step import score_of, train_step
from stagewise.windows.draw import Batch
from stagewise.windows.feed import Feed

MEASURED_STEPS = (1, 2)  # the second step is the first with the optimizer's state


class Training:
    """The training of one stage inside its folder."""

    def __init__(self, job: Job, folder: Path, stop: Stop, report: Report) -> None:
        self.job, self.folder, self.stop, self.report = job, folder, stop, report
        self.modules = {"stage": job.trainee.stage, "objective": job.trainee.objective}
        self.feed = Feed(job.source)
        self.progress, self.saves, self.best_before = Progress(), 0, ""
        self.saved_at = self.clock = time.monotonic()

    def run(self) -> Progress:
        """Train until convergence or the last epoch, and leave `encoder.safetensors` and `metrics.jsonl`.

        Raises:
            NumberError: a loss or a weight is NaN or infinite.
            Interrupted: a signal asked to stop; a checkpoint was written.
            DiskError: a checkpoint cannot be written; the one before is kept.
        """
        self._resume()
        progress, job = self.progress, self.job
        if not progress.history:
            self._end_epoch(steps=0)  # the untrained stage: what every later loss is compared with
        while progress.epoch < job.epochs and not self.converged:
            self._train_epoch()
        self._finish()
        return progress

    @property
    def converged(self) -> bool:
        """Whether the best loss is as old as patience allows."""
        return self.progress.epoch - self.progress.best_epoch >= self.job.patience

    def _train_epoch(self) -> None:
        job, progress = self.job, self.progress
        epoch, steps = progress.epoch + 1, job.windows.steps(job.batch_size)
        batches = job.windows.batches(job.batch_size, job.seed, job.name, "epoch", epoch)
        job.trainee.stage.train()
        for batch, stored in self.feed(islice(batches, progress.step, None)):
            score = self._step(epoch, batch, stored)
            progress.step += 1
            progress.steps += 1
            for name, value in self._numbers(score, epoch, batch).items():
                progress.sums[name] = progress.sums.get(name, 0.0) + value
            self.report(
                "step",
                stage=job.name,
                epoch=epoch,
                epochs=job.epochs,
                step=progress.step,
                steps=steps,
                rows=job.windows.rows * len(batch.items),
                loss=progress.sums["loss"] / progress.step,
                peak_bytes=progress.peak_bytes,
            )
            if self.stop.signal is not None or time.monotonic() - self.saved_at >= job.checkpoint:
                self._save()
                self.stop.check(f"stage {job.name} is saved at step {progress.step} of epoch {epoch}.")
        progress.epoch = epoch
        self._end_epoch(steps)

    def _step(self, epoch: int, batch: Batch, stored: Tensor) -> Score:
        job, progress = self.job, self.progress
        seed = derive_seed(job.seed, job.name, "step", epoch, progress.step)
        torch.manual_seed(seed)  # for layers that draw, such as dropout
        generator = torch.Generator().manual_seed(seed)
        if progress.steps + 1 not in MEASURED_STEPS:
            return train_step(job.trainee, *self._input(batch, stored), generator)
        existing = sum(t.numel() * t.element_size() for t in state_of(self.modules, job.trainee.optimizer).values())
        with measured(job.device, existing) as peak:
            score = train_step(job.trainee, *self._input(batch, stored), generator)
        progress.peak_bytes = max(progress.peak_bytes, peak.bytes)
        return score

    def _input(self, batch: Batch, stored: Tensor) -> tuple[Tensor, Crop]:
        x_BCT = self.job.source.finish(stored.to(self.job.device, non_blocking=True))
        return represent(self.job.below, x_BCT), Crop(batch.skips, self.job.windows.rows)

    def _numbers(self, score: Score, epoch: int, batch: Batch) -> dict[str, float]:
        numbers = {"loss": score.loss.item()} | {name: value.item() for name, value in score.metrics.items()}
        if not math.isfinite(numbers["loss"]):
            items = ", ".join(self.job.keys[item] for item in batch.items.tolist())
            kept = (
                f"the checkpoint of epoch {self.progress.history[-1]['epoch']} is kept"
                if self.saves
                else "nothing is lost"
            )
            raise NumberError(
                f"stage {self.job.name}, epoch {epoch}, step {self.progress.step + 1}: the loss is "
                f"{numbers['loss']} (items {items}); {kept}. Lower the learning rate, for example with "
                f"`--set stage.{self.job.name}.train.optimizer.lr=1e-4`, or set train.clip_gradient_norm; "
                "check these items if it comes back."
            )
        return numbers

    def _end_epoch(self, steps: int) -> None:
        """Validate, note the epoch, keep the best weights, and write a checkpoint."""
        progress, job = self.progress, self.job
        record: dict[str, Any] = {"epoch": progress.epoch, "steps": progress.steps}
        record |= {name: value / steps for name, value in progress.sums.items()}
        record |= {f"validation_{name}": value for name, value in self._validate().items()}
        progress.sums, progress.step = {}, 0
        loss = record.get("validation_loss", record.get("loss"))
        if progress.best_loss is None or (loss is not None and loss < progress.best_loss):
            name = f"best-{progress.epoch}.safetensors"
            (self.folder / "checkpoint").mkdir(parents=True, exist_ok=True)
            digest = write_tensors(self.folder / "checkpoint" / name, state_of({"stage": job.trainee.stage}, None))
            progress.best_loss, progress.best_epoch = loss, progress.epoch
            progress.best_file, progress.best_sha256 = name, digest
        record["seconds"] = round(self._elapsed(), 3)
        progress.history.append(record)
        self._save()
        self.report("epoch", stage=job.name, epochs=job.epochs, **record)
        self.stop.check(f"stage {job.name} is saved after epoch {progress.epoch}.")

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Score the same windows with the same negatives every time."""
        job = self.job
        job.trainee.stage.eval()
        health, sums, count = Health(job.trainee.stage.out_channels), dict[str, float](), 0
        batches = job.validation.batches(job.batch_size, job.seed, job.name, "validation")
        for number, (batch, stored) in enumerate(Feed(job.source)(batches)):
            z_BCT, c_BDT = job.trainee.stage.window(*self._input(batch, stored))
            generator = torch.Generator().manual_seed(derive_seed(job.seed, job.name, "validation", number))
            score = score_of(job.trainee, z_BCT, c_BDT, generator)
            health.add(c_BDT)
            for name, value in {"loss": score.loss, **score.metrics}.items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(batch.items)
            count += len(batch.items)
        self.progress.health = health.report()
        averages = {name: value / count for name, value in sums.items()}
        if not all(map(math.isfinite, averages.values())):
            raise NumberError(
                f"stage {job.name}: the validation loss after epoch {self.progress.epoch} is not finite; nothing is "
                f"frozen. Lower the learning rate with `--set stage.{job.name}.train.optimizer.lr=1e-4`."
            )
        return averages

    def _elapsed(self) -> float:
        now = time.monotonic()
        self.progress.seconds += now - self.clock
        self.progress.waited, self.clock = self.progress.waited + self.feed.waited, now
        self.feed.waited = 0.0
        return self.progress.seconds

    def _save(self) -> None:
        self._elapsed()
        self.saves += 1
        folder = self.folder / "checkpoint"
        if not all(bool(torch.isfinite(p).all()) for p in self.job.trainee.parameters()):
            raise NumberError(
                f"stage {self.job.name}: the last step made weights NaN or infinite; the checkpoint before is kept. "
                f"Lower the learning rate with `--set stage.{self.job.name}.train.optimizer.lr=1e-4`, or set "
                "train.clip_gradient_norm."
            )
        tensors = state_of(self.modules, self.job.trainee.optimizer)
        save_checkpoint(folder, Checkpoint(self.saves, dict(vars(self.progress)), tensors))
        for old in folder.glob("best-*.safetensors"):
            if old.name not in (self.progress.best_file, self.best_before):  # the other slot names the one before
                old.unlink()
        self.best_before = self.progress.best_file
        self.saved_at = time.monotonic()

    def _resume(self) -> None:
        checkpoint, discarded = load_checkpoint(self.folder / "checkpoint")
        for line in discarded:
            self.report("note", text=line)
        if checkpoint is None:
            return
        progress = Progress(**checkpoint.progress)
        best = self.folder / "checkpoint" / progress.best_file
        if not best.exists() or atomic.sha256_of(best) != progress.best_sha256:
            self.report("note", text=f"{best} is damaged: stage {self.job.name} starts again.")
            atomic.remove(self.folder / "checkpoint")
            return
        restore(checkpoint.tensors, self.modules, self.job.trainee.optimizer)
        self.progress, self.saves, self.best_before = progress, checkpoint.number, progress.best_file
        self.report("note", text=f"stage {self.job.name} goes on after epoch {progress.epoch}, step {progress.step}.")

    def _finish(self) -> None:
        """Put the best weights in place of the last ones and write what the stage leaves behind."""
        tensors = read_tensors(self.folder / "checkpoint" / self.progress.best_file)
        if not all(bool(torch.isfinite(t).all()) for t in tensors.values() if t.is_floating_point()):
            raise NumberError(
                f"stage {self.job.name}: weights are NaN or infinite after training; nothing is frozen. Lower the "
                f"learning rate with `--set stage.{self.job.name}.train.optimizer.lr=1e-4`."
            )
        restore(tensors, {"stage": self.job.trainee.stage}, None)
        write_tensors(self.folder / "encoder.safetensors", self.job.trainee.stage.state_dict())
        lines = (json.dumps(record).encode() + b"\n" for record in self.progress.history)
        atomic.write_bytes(self.folder / "metrics.jsonl", lines)
