"""Plain 3D U-Net with batch norm: stage 1 of the two-stage dose network."""

from __future__ import annotations

from torch import nn

from .encoder_decoder import EncoderDecoder3D
from .pointwise import PointwiseConv3d

__all__ = ["UNet3D"]


def convolution_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Twice (3³ convolution without bias, batch norm, ReLU)."""
    return nn.Sequential(
        nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm3d(out_channels),
        nn.ReLU(inplace=True),
        nn.Conv3d(out_channels, out_channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm3d(out_channels),
        nn.ReLU(inplace=True),
    )


def up_block(in_channels: int, out_channels: int) -> nn.Sequential:
    """Transposed 2³ convolution of stride 2 without bias, batch norm, ReLU."""
    return nn.Sequential(
        nn.ConvTranspose3d(in_channels, out_channels, kernel_size=2, stride=2, bias=False),
        nn.BatchNorm3d(out_channels),
        nn.ReLU(inplace=True),
    )


class UNet3D(EncoderDecoder3D):
    """Four levels and a bridge, filters doubling from `base_filters`; linear output.

    Parameter names (`enc1 … enc4, bridge, up4 … up1, dec4 … dec1, out_conv`) are those of
    published checkpoints, which load strictly.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        base_filters: filters of the first level.
        bridge_filters: of the bridge; by default 16 times those of the first level.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 1,
        base_filters: int = 8,
        bridge_filters: int | None = None,
    ) -> None:
        super().__init__()
        f = base_filters
        bridge = bridge_filters or 16 * f
        self.enc1 = convolution_block(in_channels, f)
        self.enc2 = convolution_block(f, 2 * f)
        self.enc3 = convolution_block(2 * f, 4 * f)
        self.enc4 = convolution_block(4 * f, 8 * f)
        self.bridge = convolution_block(8 * f, bridge)
        self.up4 = up_block(bridge, 8 * f)
        self.dec4 = convolution_block(16 * f, 8 * f)
        self.up3 = up_block(8 * f, 4 * f)
        self.dec3 = convolution_block(8 * f, 4 * f)
        self.up2 = up_block(4 * f, 2 * f)
        self.dec2 = convolution_block(4 * f, 2 * f)
        self.up1 = up_block(2 * f, f)
        self.dec1 = convolution_block(2 * f, f)
        self.out_conv = PointwiseConv3d(f, out_channels, float32_output=True)
        self.pool = nn.MaxPool3d(2)
