"""Every optimizer of the torch that is installed: those that a stage can be trained with, and those that it cannot."""

import torch

REFUSED = {
    "LBFGS": "missing 1 required positional argument: 'closure'",
    "Muon": "Muon only supports 2D parameters",
    "Optimizer": "Optimizer",
    "SparseAdam": "SparseAdam does not support dense gradients",
}
ALL = [
    name
    for name, kind in vars(torch.optim).items()
    if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)
]
USABLE = [getattr(torch.optim, name) for name in sorted(ALL) if name not in REFUSED]
