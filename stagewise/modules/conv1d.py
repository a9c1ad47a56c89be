"""The paper's audio encoder: one or several 1-D convolutions, each with a bias and a ReLU, without a norm."""

from __future__ import annotations

from torch import nn

from stagewise.modules.numbers import Numbers, check_number, per_layer


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
        ValueError: the lists differ in length, or hold something else than sizes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: Numbers,
        kernel_size: Numbers,
        stride: Numbers = 1,
        padding: Numbers = 0,
    ) -> None:
        check_number("in_channels", in_channels)
        layers: list[nn.Module] = []
        numbers = per_layer(out_channels=out_channels, kernel_size=kernel_size, stride=stride, padding=padding)
        for channels, kernel, hop, pad in numbers:
            layers += [nn.Conv1d(in_channels, channels, kernel, hop, pad), nn.ReLU()]
            in_channels = channels
        super().__init__(*layers)
