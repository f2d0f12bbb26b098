"""A U-Net that takes noise away: at half resolution, conditioned on the time by FiLM."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .configs import DenoisingUNetConfig
from .dose_network import DoseNetwork, TwoStageDose

__all__ = ["DenoisingUNet"]

_TIME_FEATURES = 32
_GROUP = 4  # channels that share one norm


class _Block(nn.Module):
    """Two convolutions with group norm; the time scales and shifts the first one's features.

    FiLM: Perez et al. 2018, doi 10.1609/aaai.v32i1.11671.
    """

    def __init__(self, in_channels: int, out_channels: int, time_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, padding=1)
        self.conv2 = nn.Conv3d(out_channels, out_channels, 3, padding=1)
        groups = max(1, out_channels // _GROUP)
        self.norm1 = nn.GroupNorm(groups, out_channels)
        self.norm2 = nn.GroupNorm(groups, out_channels)
        self.film = nn.Linear(time_channels, 2 * out_channels)
        self.identity: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.identity = nn.Conv3d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """From `(batch, in_channels, z, y, x)` and `(batch, time_channels)`."""
        scale, shift = self.film(time)[:, :, None, None, None].chunk(2, dim=1)
        y = functional.silu(self.norm1(self.conv1(x)) * (1 + scale) + shift)
        y = functional.silu(self.norm2(self.conv2(y)))
        result: Tensor = self.identity(x) + y
        return result


class DenoisingUNet(DoseNetwork):
    """From noisy values and what they are conditioned on to what leads away from the noise.

    The last two channels of the input are the noisy values, constant in cubes of 2³ voxels, and the
    time, 0 for data and 1 for noise, constant everywhere. The output is constant in these cubes,
    too: what the network works on is half as fine. Its meaning is the path's (`tasks.diffusion`).

    Args:
        config: channels and filters.
    """

    bytes_per_voxel = 500

    def __init__(self, config: DenoisingUNetConfig) -> None:
        super().__init__(config)
        f, features = config.filters, 4 * config.filters
        self.path, self.whitened = config.path, config.whitened
        self.earlier_channels = config.earlier_channels
        self.time = nn.Sequential(
            nn.Linear(_TIME_FEATURES, features), nn.SiLU(), nn.Linear(features, features)
        )
        self.gather = nn.Conv3d(self.input_channels - 1, f, kernel_size=2, stride=2)
        widths = [f, 2 * f, 4 * f, 4 * f]
        self.down = nn.ModuleList(
            _Block(before, after, features)
            for before, after in zip([f, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(deep, width, kernel_size=2, stride=2)
            for width, deep in pairwise(widths)
        )
        self.decode = nn.ModuleList(_Block(2 * width, width, features) for width in widths[:-1])
        self.out_conv = nn.Conv3d(f, 1, 3, padding=1)
        nn.init.zeros_(self.out_conv.weight)
        assert self.out_conv.bias is not None
        nn.init.zeros_(self.out_conv.bias)

    def forward(self, x: Tensor) -> TwoStageDose:
        """From `(batch, input_channels, z, y, x)`; there is no coarse dose."""
        time = self.time(_features(x[:, -1, 0, 0, 0]).to(x.dtype))
        features = self.gather(x[:, :-1])
        skips = []
        for level, block in enumerate(self.down):
            features = block(features if level == 0 else functional.max_pool3d(features, 2), time)
            skips.append(features)
        skips.pop()
        for up, decode in zip(reversed(self.up), reversed(self.decode), strict=True):
            features = decode(torch.cat([skips.pop(), up(features)], dim=1), time)
        found = self.out_conv(features).float()
        return TwoStageDose(None, functional.interpolate(found, scale_factor=2.0, mode="nearest"))


def _features(time: Tensor) -> Tensor:
    """Sines and cosines of a time 0…1, `(batch,)`: `(batch, features)`, float32."""
    half = _TIME_FEATURES // 2
    rates = torch.exp(torch.linspace(0.0, math.log(1000.0), half, device=time.device))
    angles = time.float()[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
