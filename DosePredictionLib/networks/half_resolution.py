"""A residual U-Net at half resolution, with a light head at full resolution."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from .configs import HalfResolutionConfig
from .dose_network import DoseNetwork, TwoStageDose
from .pointwise import PointwiseConv3d
from .res_unet3d import ResidualBlock

__all__ = ["HalfResolutionNetwork"]


class HalfResolutionNetwork(DoseNetwork):
    """All blocks but the last work on an eighth of the voxels.

    A convolution of 2³ and stride 2 gathers each cube of voxels into features; four levels follow,
    at a half, a quarter, an eighth and a sixteenth of the resolution. The head adds what a 1³
    convolution makes of the input to what a transposed convolution makes of the trunk, and looks
    once over 3³ voxels. Full-size tensors, which a processor spends most of a U-Net's time on, are
    left with `head_filters` channels.

    Args:
        config: channels and filters.
    """

    bytes_per_voxel = 400

    def __init__(self, config: HalfResolutionConfig) -> None:
        super().__init__(config)
        f, head = config.filters, config.head_filters
        self.gather = nn.Conv3d(self.input_channels, f, kernel_size=2, stride=2, bias=False)
        self.gather_norm = nn.BatchNorm3d(f)
        widths = [f, 2 * f, 4 * f, 8 * f]
        self.down = nn.ModuleList(
            ResidualBlock(before, after)
            for before, after in zip([f, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(deep, width, kernel_size=2, stride=2)
            for width, deep in pairwise(widths)
        )
        self.decode = nn.ModuleList(ResidualBlock(2 * width, width) for width in widths[:-1])
        self.spread = nn.ConvTranspose3d(f, head, kernel_size=2, stride=2)
        self.direct = PointwiseConv3d(self.input_channels, head)
        self.look = nn.Conv3d(head, head, kernel_size=3, padding=1, bias=False)
        self.look_norm = nn.BatchNorm3d(head)
        self.out_conv = PointwiseConv3d(head, 1, float32_output=True)
        self.pool = nn.MaxPool3d(2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> TwoStageDose:
        """Predict from `(batch, input_channels, z, y, x)`; there is no coarse dose."""
        features = self.relu(self.gather_norm(self.gather(x)))
        skips = []
        for level, block in enumerate(self.down):
            features = block(features if level == 0 else self.pool(features))
            skips.append(features)
        skips.pop()
        for up, decode in zip(reversed(self.up), reversed(self.decode), strict=True):
            features = decode(torch.cat([skips.pop(), up(features)], dim=1))
        full = self.spread(features)
        full = self.relu(full + self.direct(x).to(full.dtype))
        full = self.relu(self.look_norm(self.look(full)))
        return TwoStageDose(None, self.out_conv(full))
