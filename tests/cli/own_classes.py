"""Modules, objectives and data sets that fail, each in its way, as those of users do."""

import numpy as np
import torch
from tiny import TinySpeech

from stagewise.modules import Conv1d
from stagewise.objectives import Objective


class Fails(Conv1d):
    """Fails in the second step of training: `how` says in which way."""

    calls = 0

    def __init__(self, how: str, **arguments):
        super().__init__(**arguments)
        self.how, Fails.calls = how, 0

    def forward(self, x):
        Fails.calls += self.training and type(x) is torch.Tensor  # not while the plan reckons
        if Fails.calls >= 2:
            if self.how == "memory":
                raise MemoryError
            if self.how == "torch":
                torch.empty(1 << 60)
            return {}["mine"]
        return super().forward(x)


class NoScore(Objective):
    """Gives a tensor."""

    def __init__(self, z_channels, c_channels):
        super().__init__()

    def forward(self, z_BCT, c_BDT, generator=None):
        return z_BCT.mean()


class Speech(TinySpeech):
    """Breaks one promise of a data set, which `breaks` names."""

    def __init__(self, breaks: str):
        super().__init__()
        self.breaks = breaks
        if breaks == "keys":
            self.keys = ["a\n", *self.keys[1:]]
        if breaks == "unique":
            self.keys = ["a"] * len(self.keys)
        if breaks == "lengths":
            self.lengths = [int(length) for length in self.lengths]
        if breaks == "labels":
            self.labels = {"speaker": {"ann": 1}}
        if breaks == "count":
            self.labels = {"speaker": self.labels["speaker"].from_names(["a", "b"])}

    def read(self, item, start, stop):
        rows = super().read(item, start, stop)
        return {"shape": rows[0], "none": None}.get(self.breaks, rows)

    def split(self, name):
        items = super().split(name)
        return {"list": items.tolist(), "range": items + 99, "float": items.astype(np.float32)}.get(self.breaks, items)

    def fingerprint(self):
        return 5 if self.breaks == "fingerprint" else super().fingerprint()
