"""Random stacks of convolutions and pools, small enough to run whole, in float64."""

import torch
from hypothesis import strategies as st
from torch import nn

from stagewise.modules import GRU
from stagewise.modules.stage_module import StageModule

WIDTH = 3


@st.composite
def layers(draw):
    """Arguments of one layer; at least one row of every window is no padding."""
    kind = draw(st.sampled_from(["conv", "conv", "max", "avg"]))
    kernel = draw(st.integers(1, 6))
    most = kernel - 1 if kind == "conv" else kernel // 2
    dilation = draw(st.integers(1, 2)) if kind == "conv" else 1
    return kind, kernel, draw(st.integers(1, 4)), draw(st.integers(0, most)), dilation


stacks = st.lists(layers(), min_size=1, max_size=4)


def build(stack, channels=1):
    """The torch modules of a stack, with a ReLU after each convolution."""
    modules = []
    for kind, kernel, stride, padding, dilation in stack:
        if kind == "conv":
            modules += [nn.Conv1d(channels, WIDTH, kernel, stride, padding, dilation), nn.ReLU()]
            channels = WIDTH
        else:
            modules.append({"max": nn.MaxPool1d, "avg": nn.AvgPool1d}[kind](kernel, stride, padding))
    return nn.Sequential(*modules)


def stage(stack, channels=1, recurrent=False, seed=0):
    """A float64 stage of a stack, or of a GRU."""
    torch.manual_seed(seed)
    if recurrent:
        return StageModule(None, GRU(channels, WIDTH), channels).double().eval()
    return StageModule(build(stack, channels), None, channels).double().eval()


def whole(stages, x):
    """What one pass over a whole item gives."""
    with torch.no_grad():
        for module in stages:
            x = module(x)[1]
    return x


PAPER = {
    "out_channels": [512] * 5,
    "kernel_size": [10, 8, 4, 4, 4],
    "stride": [5, 4, 2, 2, 2],
    "padding": [2, 2, 2, 2, 1],
}
