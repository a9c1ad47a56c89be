"""The paper's audio encoder: one or several 1-D convolutions, each with a bias and a ReLU, without a norm."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


class Conv1d(nn.Sequential):
    """x (B, in_channels, T) → z (B, out_channels, T'), one convolution and ReLU per layer.

    Every argument but `in_channels` is one number, or one list with a number per layer.
    Löwe et al. 2019, appendix A.2 (the encoder of van den Oord et al. 2018, section 3.1).

    Args:
        in_channels: channels of the input.
        out_channels: channels of each layer's output.
        kernel_size: rows that one output row of a layer sees.
        stride: rows between neighbouring output rows.
        padding: rows of zeros added at both true ends of an item.

    Raises:
        ValueError: the lists differ in length, or hold something else than whole numbers.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int | Sequence[int],
        kernel_size: int | Sequence[int],
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
    ) -> None:
        given = {
            "out_channels": out_channels,
            "kernel_size": kernel_size,
            "stride": stride,
            "padding": padding,
        }
        counts = {name: len(value) for name, value in given.items() if not isinstance(value, int)}
        if len(set(counts.values())) > 1 or 0 in counts.values():
            raise ValueError(f"one number per layer is needed in every list, but the lists have {counts} numbers")
        for name, value in given.items():
            if not all(isinstance(number, int) for number in ([value] if isinstance(value, int) else value)):
                raise ValueError(f"{name} is one whole number, or one for each layer, not {value!r}")
        depth = max(counts.values(), default=1)
        layers: list[nn.Module] = []
        per_layer = {n: [v] * depth if isinstance(v, int) else list(v) for n, v in given.items()}
        for channels, kernel, hop, pad in zip(*per_layer.values(), strict=True):
            layers += [nn.Conv1d(in_channels, channels, kernel, hop, pad), nn.ReLU()]
            in_channels = channels
        super().__init__(*layers)
