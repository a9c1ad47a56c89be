"""The arithmetic that people use today, written out: whole crops, every negative materialised.

The same steps as the authors' published code takes for its audio experiment: a layer runs over the whole crop, each
negative is a shuffled copy of all rows of the batch, 128 rows are scored, one prediction step after another.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from paper import BATCH, CHANNELS, CROP, HIDDEN, KERNEL, PADDING, STRIDE, WINDOW
from torch import Tensor, nn

STEPS, NEGATIVES = 12, 10


def naive_loss(z_BTC: Tensor, c_BTD: Tensor, predictor: nn.Linear) -> Tensor:
    """InfoNCE (Löwe et al. 2019, equations 3 and 4), nothing saved."""
    channels = z_BTC.shape[2]
    rows_RC = z_BTC.reshape(-1, channels)
    negatives_RCN = torch.stack([rows_RC[torch.randperm(len(rows_RC))] for _ in range(NEGATIVES)], dim=2)
    if z_BTC.shape[1] > WINDOW:
        start = int(torch.randint(z_BTC.shape[1] - WINDOW, ()))
        z_BTC, c_BTD = z_BTC[:, start : start + WINDOW], c_BTD[:, start : start + WINDOW]
    predictions = predictor(c_BTD).split(channels, dim=2)
    loss = z_BTC.new_zeros(())
    for k, prediction_BTC in enumerate(predictions, 1):
        prediction_R1C = prediction_BTC[:, :-k].reshape(-1, 1, channels)
        positive_R1 = (prediction_R1C @ z_BTC[:, k:].reshape(-1, channels, 1)).squeeze(2)
        negative_RN = (prediction_R1C @ negatives_RCN[-len(prediction_R1C) :]).squeeze(1)
        loss = loss - F.log_softmax(torch.cat([positive_R1, negative_RN], 1), dim=1)[:, 0].mean()
    return loss / len(predictions)


class NaiveNetwork(nn.Module):
    """Six layers, each with its own loss, run over the whole crop."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        channels = [1, *[CHANNELS] * 5]
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv1d(c, CHANNELS, k, s, p), nn.ReLU())
            for c, k, s, p in zip(channels, KERNEL, STRIDE, PADDING, strict=False)
        )
        self.gru = nn.GRU(CHANNELS, HIDDEN, batch_first=True)
        dims = [*[CHANNELS] * 5, HIDDEN]
        self.predictors = nn.ModuleList(nn.Linear(d, STEPS * CHANNELS, bias=False) for d in dims)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=2e-4)
        self.x_BCT = torch.randn(BATCH, 1, CROP)

    def step(self, layer: int | None) -> None:
        """Train one layer (the ones below only run), or all in sync with a single backward."""
        losses, x_BCT = [], self.x_BCT
        for number in range(6 if layer is None else layer + 1):
            trained = layer in (None, number)
            with torch.set_grad_enabled(trained):
                z_BCT = self.convs[number](x_BCT) if number < 5 else x_BCT
                z_BTC = z_BCT.transpose(1, 2)
                c_BTD = z_BTC if number < 5 else self.gru(z_BTC)[0]
                if trained:
                    losses.append(naive_loss(z_BTC, c_BTD, self.predictors[number]))
            x_BCT = z_BCT.detach()
        self.optimizer.zero_grad()
        sum(losses, torch.zeros(())).backward()
        self.optimizer.step()
