"""A U-Net of axial slices with densely aggregated dilated convolutions at its bottom.

The network of Zhang, Hu et al. 2020 (DCNN, doi 10.1088/1361-6560/aba87b), with the names of the
checkpoints that the winners of the OpenKBP challenge published of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .configs import DilatedUNet2DConfig
from .dose_network import DoseNetwork, TwoStageDose

__all__ = ["DILATIONS", "DilatedUNet2DNetwork"]

DILATIONS = (2, 3, 5, 7, 9)
"""Of the convolutions at the bottom, where a voxel is eight of the input."""


class SingleConv(nn.Module):
    """3² convolution without bias, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.single_conv = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, in_channels, y, x)` to `(batch, out_channels, y, x)`."""
        y: Tensor = self.single_conv(x)
        return y


def twice(in_channels: int, out_channels: int) -> list[nn.Module]:
    """The two convolutions of a level."""
    return [SingleConv(in_channels, out_channels), SingleConv(out_channels, out_channels)]


def down_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Max pooling by 2, then the two convolutions of a level."""
    return nn.Sequential(nn.MaxPool2d(2), *twice(in_channels, out_channels))


class DenseAggregation(nn.Module):
    """Dilated convolutions, each over all features before it; the channel count stays.

    Each is batch norm, ReLU, 3² convolution with bias; a 1² one of the same kind joins them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        for number, dilation in enumerate(DILATIONS, start=1):
            block = self._block(number * channels, channels, 3, dilation)
            self.add_module(f"conv{number}", block)
        self.conv_out = self._block((len(DILATIONS) + 1) * channels, channels, 1, 1)

    @staticmethod
    def _block(in_channels: int, out_channels: int, kernel: int, dilation: int) -> nn.Sequential:
        padding = dilation if kernel > 1 else 0
        return nn.Sequential(
            nn.BatchNorm2d(in_channels),
            nn.ReLU(),  # not in place: the features before it are seen again
            nn.Conv2d(in_channels, out_channels, kernel, padding=padding, dilation=dilation),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, channels, y, x)` to the same shape."""
        # Published weights want the first convolution's features before the input's.
        features = torch.cat((self.get_submodule("conv1")(x), x), dim=1)
        for number in range(2, len(DILATIONS) + 1):
            further = self.get_submodule(f"conv{number}")(features)
            features = torch.cat((features, further), dim=1)
        y: Tensor = self.conv_out(features)
        return y


class Encoder(nn.Module):
    """Four levels down, and the dense aggregation at the bottom."""

    def __init__(self, in_channels: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.encoder_1 = nn.Sequential(*twice(in_channels, first))
        self.encoder_2 = down_block(first, second)
        self.encoder_3 = down_block(second, third)
        self.encoder_4 = down_block(third, fourth)
        self.DFA = DenseAggregation(fourth)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The features of each level, the bottom's last."""
        first = self.encoder_1(x)
        second = self.encoder_2(first)
        third = self.encoder_3(second)
        return first, second, third, self.DFA(self.encoder_4(third))


class Decoder(nn.Module):
    """Three levels up by 2² transposed convolutions, each joined with its level of the encoder."""

    def __init__(self, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        first, second, third, fourth = widths
        self.upconv_3_1 = nn.ConvTranspose2d(fourth, third, kernel_size=2, stride=2)
        self.decoder_conv_3_1 = nn.Sequential(*twice(2 * third, third))
        self.upconv_2_1 = nn.ConvTranspose2d(third, second, kernel_size=2, stride=2)
        self.decoder_conv_2_1 = nn.Sequential(*twice(2 * second, second))
        self.upconv_1_1 = nn.ConvTranspose2d(second, first, kernel_size=2, stride=2)
        self.decoder_conv_1_1 = nn.Sequential(*twice(2 * first, first))
        self.conv_out = nn.Sequential(nn.Conv2d(first, 1, kernel_size=1))

    def forward(self, levels: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
        """Map the encoder's features to `(batch, 1, y, x)`."""
        first, second, third, bottom = levels
        y = self.decoder_conv_3_1(torch.cat((self.upconv_3_1(bottom), third), dim=1))
        y = self.decoder_conv_2_1(torch.cat((self.upconv_2_1(y), second), dim=1))
        y = self.decoder_conv_1_1(torch.cat((self.upconv_1_1(y), first), dim=1))
        dose: Tensor = self.conv_out(y)
        return dose


class DilatedUNet2DNetwork(DoseNetwork):
    """Maps slices `(batch, input_channels, y, x)` to their dose, in one stage.

    Parameter names are those of published checkpoints, which load strictly; of twelve channels and
    the published widths it has 11,182,465 parameters. It knows nothing of the slices above and
    below but what its channels say.

    Args:
        config: channels and widths.
    """

    bytes_per_voxel = 1200

    def __init__(self, config: DilatedUNet2DConfig) -> None:
        super().__init__(config)
        self.encoder = Encoder(self.input_channels, config.widths)
        self.decoder = Decoder(config.widths)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> TwoStageDose:
        """Predict from `(batch, input_channels, y, x)`."""
        return TwoStageDose(None, self.decoder(self.encoder(x)))
