"""Residual 3D U-Net: stage 2 of the two-stage dose network."""

from __future__ import annotations

from torch import Tensor, nn

from .encoder_decoder import EncoderDecoder3D
from .pointwise import PointwiseConv3d

__all__ = ["ResUNet3D", "ResidualBlock"]


class ResidualBlock(nn.Module):
    """conv–BN–ReLU–conv–BN plus the identity, then ReLU.

    Where the channel count changes, a 1³ convolution with batch norm takes the identity's place.

    Args:
        float32_output: in a network of 16 bits the sum is float32, if the channel count changes.
    """

    def __init__(self, in_channels: int, out_channels: int, float32_output: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(out_channels)
        self.conv2 = nn.Conv3d(out_channels, out_channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.proj: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.proj = nn.Sequential(
                PointwiseConv3d(in_channels, out_channels, False, float32_output),
                nn.BatchNorm3d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, in_channels, z, y, x)` to `(batch, out_channels, z, y, x)`."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        identity = self.proj(x)
        # In place: at full size each extra tensor of this shape costs hundreds of megabytes.
        widens = identity.dtype != y.dtype and identity is not x
        y = identity.add_(y) if widens else y.add_(identity)
        result: Tensor = self.relu(y)
        return result


class ResUNet3D(EncoderDecoder3D):
    """Four levels and a bridge of residual blocks; transposed convolutions with bias, no norm.

    Parameter names are those of published checkpoints, which load strictly.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        base_filters: filters of the first level, doubling with each level.
    """

    def __init__(self, in_channels: int, out_channels: int = 1, base_filters: int = 16) -> None:
        super().__init__()
        f = base_filters
        self.enc1 = ResidualBlock(in_channels, f)
        self.enc2 = ResidualBlock(f, 2 * f)
        self.enc3 = ResidualBlock(2 * f, 4 * f)
        self.enc4 = ResidualBlock(4 * f, 8 * f)
        self.bridge = ResidualBlock(8 * f, 16 * f)
        self.up4 = nn.ConvTranspose3d(16 * f, 8 * f, kernel_size=2, stride=2)
        self.dec4 = ResidualBlock(16 * f, 8 * f)
        self.up3 = nn.ConvTranspose3d(8 * f, 4 * f, kernel_size=2, stride=2)
        self.dec3 = ResidualBlock(8 * f, 4 * f)
        self.up2 = nn.ConvTranspose3d(4 * f, 2 * f, kernel_size=2, stride=2)
        self.dec2 = ResidualBlock(4 * f, 2 * f)
        self.up1 = nn.ConvTranspose3d(2 * f, f, kernel_size=2, stride=2)
        self.dec1 = ResidualBlock(2 * f, f, float32_output=True)
        self.out_conv = PointwiseConv3d(f, out_channels, float32_output=True)
        self.pool = nn.MaxPool3d(2)
