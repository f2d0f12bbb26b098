"""1³ convolutions as what they are: products of a matrix with every voxel's channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["PointwiseConv3d"]


class PointwiseConv3d(nn.Conv3d):
    """A convolution of kernel 1 that runs as a matrix product where channels lie last in memory.

    Forward and backward together take a third to a sixth of the time of the convolution on a CPU,
    which has no fast path for it in that layout. Parameters are those of `nn.Conv3d`.
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, in_channels, z, y, x)` to `(batch, out_channels, z, y, x)`."""
        if not x.is_contiguous(memory_format=torch.channels_last_3d):
            return super().forward(x)
        last = F.linear(x.permute(0, 2, 3, 4, 1), self.weight.flatten(1), self.bias)
        return last.permute(0, 4, 1, 2, 3)
