"""A step of the paper's three vision modules: as people write it, and in groups of patches, channels last."""

from __future__ import annotations

import sys
from functools import partial

import torch
import torch.nn.functional as F
from report import Table
from timing import interleaved, ratio
from torch import Tensor, nn

from stagewise.modules import ResNet
from stagewise.modules.patches import EachPatch
from stagewise.objectives import GridInfoNCE
from stagewise.training.memory_measured import measured

IMAGES, GRID, NEGATIVES, STEPS = 8, 7, 16, 5
PATCHES = IMAGES * GRID * GRID
# Arguments, shape of the input, channels and rows × columns of the widest representation, multiply-adds a patch.
MODULES = {
    "module 1": ((1, 64, 3, 1, 64), (1, 16, 16), (256, 256), 54_935_552),
    "module 2": ((256, 128, 4, 2), (256, 16, 16), (512, 64), 83_886_080),
    "module 3": ((512, 256, 6, 2), (512, 8, 8), (1024, 16), 119_537_664),
}


class Step:
    """A module in training on patches that are there."""

    def __init__(self, name: str, precision: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        arguments, shape, (channels, places), _ = MODULES[name]
        self.encoder, self.precision = ResNet(*arguments), precision
        self.channels, self.each = channels, EachPatch(self.encoder, (channels, places))
        self.x_NCHW = torch.randn(PATCHES, *shape)
        self.objective: nn.Module = GridInfoNCE(channels, channels)
        self.prepare()
        parameters = [*self.encoder.parameters(), *self.objective.parameters()]
        self.existing = 4 * (3 * sum(p.numel() for p in parameters) + self.x_NCHW.numel())
        self.optimizer = torch.optim.Adam(parameters, lr=2e-4, fused=type(self) is Step)

    def prepare(self) -> None:
        """Put weights and input into the order that the convolutions work in."""
        self.encoder = self.encoder.to(memory_format=torch.channels_last)
        self.x_NCHW = self.x_NCHW.contiguous(memory_format=torch.channels_last)

    def rows(self) -> Tensor:
        return self.each.means(self.x_NCHW.unflatten(0, (IMAGES, -1)).transpose(1, 2))

    def loss(self, z_BCHW: Tensor) -> Tensor:
        loss: Tensor = self.objective(z_BCHW, z_BCHW, torch.Generator().manual_seed(0)).loss
        return loss

    def __call__(self) -> None:
        with torch.autocast("cpu", self.precision, enabled=self.precision != torch.float32):
            z_BCHW = self.rows().view(IMAGES, GRID, GRID, self.channels).permute(0, 3, 1, 2)
            loss = self.loss(z_BCHW)
        del z_BCHW
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


class NaiveStep(Step):
    """All patches at once, every negative materialised, as the authors' published code has it."""

    def prepare(self) -> None:
        """Leave everything as torch makes it."""

    def rows(self) -> Tensor:
        z_NCHW: Tensor = self.encoder(self.x_NCHW)
        return F.adaptive_avg_pool2d(z_NCHW, 1).flatten(1)

    def loss(self, z_BCHW: Tensor) -> Tensor:
        total = z_BCHW.new_zeros(())
        for k, W_DC in enumerate(self.objective.W_KDC, 2):
            pool_RSBD = (z_BCHW[:, :, k:].permute(2, 3, 0, 1) @ W_DC.T).contiguous()
            pool_ND = pool_RSBD.flatten(0, 2)
            places = torch.randint(len(pool_ND), (len(pool_ND) * NEGATIVES, 1)).expand(-1, self.channels)
            others_NDM = pool_ND.gather(0, places).view(len(pool_ND), NEGATIVES, -1).transpose(1, 2)
            context_N1D = z_BCHW[:, :, :-k].permute(2, 3, 0, 1).flatten(0, 2)[:, None]
            scores = torch.cat([context_N1D @ pool_ND[:, :, None], context_N1D @ others_NDM], 2)[:, 0]
            total = total - F.log_softmax(scores, 1)[:, 0].mean()
        return total / STEPS


def main(runs: int = 7) -> list[Table]:
    rows = []
    for name, (*_, operations) in MODULES.items():
        steps = {"naive": NaiveStep(name), "fp32": Step(name), "bf16": Step(name, torch.bfloat16)}
        a, b = torch.randn(1024, 1024), torch.randn(1024, 4096)
        ways: dict = {**steps, "product": partial(torch.mm, a, b)}
        times = interleaved(ways, runs)
        peaks = {}
        for kind, step in steps.items():
            with measured(torch.device("cpu"), step.existing) as peak:
                step()
            peaks[kind] = peak.bytes
        done = 6 * operations * PATCHES / times["fp32"].median
        rate = done / (2 * 1024 * 1024 * 4096 / times["product"].median)
        faster = [ratio(times["naive"], times[kind]) for kind in ("fp32", "bf16")]
        memory = f"{peaks['naive'] / 1e6:.0f} → {peaks['fp32'] / 1e6:.0f} MB, {peaks['fp32'] / peaks['naive']:.2f}"
        cells = [times["naive"], times["fp32"], faster[0], times["bf16"], faster[1], f"{rate:.2f}", memory]
        rows.append([name, *cells])
    columns = [
        "step of",
        "naive",
        "fp32",
        "times faster",
        "bf16 autocast",
        "times faster",
        "rate / plain product's",
        "peak",
    ]
    note = (
        "Batch of 8 crops, 49 patches each, Adam; peak: bytes of tensors, weights and optimizer state included. The "
        "authors' published repository took 1.7 – 2.5, 1.8 – 2.1 and 1.4 – 1.5 s on this kind of machine (2026-11-22, "
        "2 threads, fp32), and 1.5 – 2.4, 1.7 – 2.3 and 2.0 – 2.2 s under bf16 autocast: no gain without AMX."
    )
    return [Table(columns, rows, [note])]


if __name__ == "__main__":
    print(*main(int(sys.argv[1]) if sys.argv[1:] else 7), sep="\n\n")
