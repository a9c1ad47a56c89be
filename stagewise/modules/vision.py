"""Modules for images: the paper's ResNet blocks, and the PixelCNN that is their context.

Legend: N images (or patches, each an image of its own), H × W pixels, B crops, C channels of z, D channels of c, R
× S patches of a crop's grid.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stagewise.modules.geometry import Numbers, check_number, per_layer

# The paper's vision encoder: pre-activation residual blocks without a norm, on patches or on whole images.

Kind = Literal["bottleneck", "basic"]
EXPANSION = {"bottleneck": 4, "basic": 1}


class ResNet(nn.Module):
    """x (N, in_channels, H, W) → z (N, out, H', W'), out = 4 · the last planes, or 1 · in "basic" blocks.

    `planes`, `blocks` and `stride` are one number, or one list with a number per group of blocks.
    Löwe et al. 2019, section 4.1 (the blocks of He et al. 2016, Identity Mappings in Deep Residual Networks, figure
    4e, without batch norm, whose statistics would mix the patches). Every convolution has a bias, and the last sum has
    no ReLU after it. Weights keep torch's own start, because the published results come from it: the authors' other
    one, delta-orthogonal, is an option that they leave off.

    Args:
        in_channels: channels of the input.
        planes: channels inside the blocks of each group.
        blocks: how many blocks each group has.
        stride: of the first block of each group; the others keep H and W.
        stem: channels of a 5 × 5 convolution before the first group; none without it.
        block: "bottleneck" (1 × 1, 3 × 3, 1 × 1) or "basic" (3 × 3, 3 × 3).

    Raises:
        ValueError: the lists differ in length or hold something else than sizes, or there is no such block.
    """

    def __init__(
        self,
        in_channels: int,
        planes: Numbers,
        blocks: Numbers,
        stride: Numbers = 1,
        stem: int | None = None,
        block: Kind = "bottleneck",
    ) -> None:
        super().__init__()
        if block not in EXPANSION:
            raise ValueError(f"block must be one of {', '.join(get_args(Kind))}, not {block!r}")
        check_number("in_channels", in_channels)
        layers: list[nn.Module] = []
        if stem is not None:
            check_number("stem", stem)
            layers.append(nn.Conv2d(in_channels, stem, 5, padding=2))
            in_channels = stem
        for width, depth, hop in per_layer("group", planes=planes, blocks=blocks, stride=stride):
            for i in range(depth):
                layers.append(_Block(in_channels, width, hop if i == 0 else 1, block))
                in_channels = width * EXPANSION[block]
        self.layers = nn.Sequential(*layers)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Return z; x is left as it is, and its memory format is kept."""
        z_NCHW: Tensor = self.layers(x_NCHW)
        return z_NCHW


class _Block(nn.Module):
    """x → x + convolutions of relu(x); where the shape changes, x gives way to a 1 × 1 projection of relu(x)."""

    def __init__(self, in_channels: int, planes: int, stride: int, kind: Kind) -> None:
        super().__init__()
        out = planes * EXPANSION[kind]
        # A convolution does not need its own output for its gradient, so what follows it may work in place.
        if kind == "bottleneck":
            self.body = nn.Sequential(
                nn.Conv2d(in_channels, planes, 1),
                nn.ReLU(inplace=True),
                nn.Conv2d(planes, planes, 3, stride, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(planes, out, 1),
            )
        else:
            self.body = nn.Sequential(
                nn.Conv2d(in_channels, planes, 3, stride, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(planes, out, 3, padding=1),
            )
        self.project = nn.Conv2d(in_channels, out, 1, stride) if stride != 1 or in_channels != out else None

    def forward(self, x_NCHW: Tensor) -> Tensor:
        active_NCHW = F.relu(x_NCHW)
        z_NCHW: Tensor = self.body(active_NCHW)
        return z_NCHW.add_(x_NCHW if self.project is None else self.project(active_NCHW))


# The paper's autoregressive model g_ar for images: gated convolutions over the grid of patches, from above.


class PixelCNN(nn.Module):
    """z (B, in_channels, R, S) → c (B, hidden_channels, R, S); c at a patch sees its own row and the rows above.

    With n layers that is the patch's own row and n rows above it, in each n columns to either side. Löwe et al. 2019,
    section 4.1 (CPC); van den Oord et al. 2016, Conditional Image Generation with PixelCNN Decoders, section 2 and
    figure 2, with the authors' change that a row sees itself as a whole: what CPC predicts are rows further down.

    The vertical 3 × 3 kernels, whose lowest row is masked, are kept as 2 × 3, and the last layer has no vertical
    output, which nobody reads. So there are 101,745,664 parameters for 1024 channels, where the authors' code has
    129,010,688: 25,165,824 that are masked and 2,099,200 that are never used.

    Args:
        in_channels: C.
        hidden_channels: D, channels of every layer; C when None.
        layers: gated layers, residual from the second one on.

    Raises:
        ValueError: there is no layer.
    """

    def __init__(self, in_channels: int, hidden_channels: int | None = None, layers: int = 4) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers must be at least 1, not {layers}")
        self.out_channels = in_channels if hidden_channels is None else hidden_channels
        widths = [in_channels, *[self.out_channels] * (layers - 1)]
        self.layers = nn.ModuleList(
            _GatedLayer(width, self.out_channels, residual=i > 0, last=i == layers - 1)
            for i, width in enumerate(widths)
        )
        self.out = nn.Conv2d(self.out_channels, self.out_channels, 1)

    def forward(self, z_BCRS: Tensor) -> Tensor:
        """Return c."""
        vertical_BDRS = horizontal_BDRS = z_BCRS
        for layer in self.layers:
            vertical_BDRS, horizontal_BDRS = layer(vertical_BDRS, horizontal_BDRS)
        c_BDRS: Tensor = self.out(horizontal_BDRS)
        return c_BDRS


class _GatedLayer(nn.Module):
    """Two streams, the vertical one of rows and the horizontal one of a row's columns, which also reads the first.

    The vertical output of the last layer is its input: nobody reads it.
    """

    def __init__(self, in_channels: int, channels: int, residual: bool, last: bool) -> None:
        super().__init__()
        self.vertical = nn.Conv2d(in_channels, 2 * channels, (2, 3), padding=1)
        self.across = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.horizontal = nn.Conv2d(in_channels, 2 * channels, (1, 3), padding=(0, 1))
        self.join = nn.Conv2d(channels, channels, 1)
        self.carry = nn.Conv2d(in_channels, 2 * channels, 1) if residual and not last else None
        self.residual, self.last = residual, last
        with torch.no_grad():  # begin as the 3 × 3 kernel does, whose start is narrower by the root of its size
            for parameter in self.vertical.parameters():
                parameter.mul_(math.sqrt(2 / 3))

    def forward(self, vertical_BCRS: Tensor, horizontal_BCRS: Tensor) -> tuple[Tensor, Tensor]:
        # Padded on either side, a kernel of two rows has one output more than there are rows; the last looks ahead.
        down_BDRS = self.vertical(vertical_BCRS)[:, :, :-1]
        out_BDRS = self.join(_gate(self.horizontal(horizontal_BCRS) + self.across(down_BDRS)))
        if self.residual:
            out_BDRS = horizontal_BCRS + out_BDRS
        if self.last:
            return vertical_BCRS, out_BDRS
        return _gate(down_BDRS if self.carry is None else down_BDRS + self.carry(vertical_BCRS)), out_BDRS


def _gate(x_BDRS: Tensor) -> Tensor:
    signal, gate = x_BDRS.chunk(2, dim=1)
    return signal.tanh() * gate.sigmoid()
