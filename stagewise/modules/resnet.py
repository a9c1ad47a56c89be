"""The paper's vision encoder: pre-activation residual blocks without a norm, on patches or on whole images.

Legend: N images (or patches, each an image of its own), H × W pixels.
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor, nn
from torch.nn import functional as F

from stagewise.modules.numbers import Numbers, check_number, per_layer

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
